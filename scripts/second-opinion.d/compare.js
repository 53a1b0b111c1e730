'use strict';
// Judges every case of a file once more, and compares.
//
// Compared: whether the quote verifies, the worse TCB status of platform and
// quoting enclave, and their advisories. Where this implementation does not
// look at something, the case says so, and what counts is that ours refuses.
// It must never refuse what ours accepts.

const fs = require('node:fs');
const { QuoteVerifier } = require('@phala/dcap-qvl');

function theirs(test) {
  const verifier = test.root === null
    ? QuoteVerifier.newProd()
    : QuoteVerifier.newWithRootCa(Buffer.from(test.root, 'hex'));
  try {
    const verified = verifier.verify(Buffer.from(test.quote, 'hex'), test.collateral, test.now);
    return {
      accepted: true,
      status: verified.status,
      advisories: [...new Set(verified.advisory_ids)].sort(),
    };
  } catch (error) {
    const causes = [];
    for (let cause = error; cause; cause = cause.cause) causes.push(cause.message);
    return { accepted: false, message: causes.join(': ').slice(0, 60) };
  }
}

function words(verdict) {
  return verdict.accepted
    ? [verdict.status, ...verdict.advisories].join(' ')
    : `refused: ${verdict.code ?? verdict.message}`;
}

function agree(test, other) {
  if (test.ours_only !== null) return !test.ours.accepted && other.accepted;
  if (!test.ours.accepted || !other.accepted) return test.ours.accepted === other.accepted;
  return words(test.ours) === words(other);
}

const cases = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const count = { agreed: 0, oursOnly: 0, disagreed: 0 };
for (const test of cases) {
  const other = theirs(test);
  let mark = 'agree';
  if (!agree(test, other)) {
    mark = 'DISAGREE';
    count.disagreed += 1;
  } else if (test.ours_only === null) {
    count.agreed += 1;
  } else {
    mark = 'ours only';
    count.oursOnly += 1;
  }
  const name = `${test.kind}: ${test.name}`;
  console.log(`${mark.padEnd(9)}  ${name.padEnd(60)}  ${words(test.ours).padEnd(52)}  ${words(other)}`);
}

const reasons = new Set(cases.map((test) => test.ours_only).filter((reason) => reason !== null));
console.log(`\n${count.agreed} verdicts agree, ${count.disagreed} disagree, ${count.oursOnly} are refused by ours only:`);
for (const reason of reasons) console.log(`  the JavaScript implementation does not compare: ${reason}`);
const fakes = cases.filter((test) => test.kind.endsWith('fake') && test.ours_only === null).length;
if (fakes < 30) {
  console.log(`expected at least 30 fakes, got ${fakes}`);
  process.exitCode = 1;
}
if (count.disagreed > 0) process.exitCode = 1;
