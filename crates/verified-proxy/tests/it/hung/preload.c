/* Calls that hang, for LD_PRELOAD: a look-up whose name begins with "hang", the disk if HANG_DISK
   is set, and accepting and sending over IP once the files that HANG_ACCEPT and HANG_SEND name
   exist. A signal's handler sends to a Unix socket. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static void hang(void) {
  for (;;) pause();
}

static void hang_if_there(const char *variable) {
  const char *file = getenv(variable);
  if (file && access(file, F_OK) == 0) hang();
}

static void hang_if_ip(int socket) {
  int domain = 0;
  socklen_t length = sizeof domain;
  if (getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_INET)
    hang_if_there("HANG_SEND");
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  int (*usual)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
  if (name && strncmp(name, "hang", 4) == 0) hang();
  return usual(name, service, hints, found);
}

int fsync(int file) {
  int (*usual)(int) = dlsym(RTLD_NEXT, "fsync");
  if (getenv("HANG_DISK")) hang();
  return usual(file);
}

int accept4(int socket, struct sockaddr *address, socklen_t *length, int flags) {
  int (*usual)(int, struct sockaddr *, socklen_t *, int) = dlsym(RTLD_NEXT, "accept4");
  hang_if_there("HANG_ACCEPT");
  return usual(socket, address, length, flags);
}

ssize_t writev(int file, const struct iovec *pieces, int count) {
  ssize_t (*usual)(int, const struct iovec *, int) = dlsym(RTLD_NEXT, "writev");
  hang_if_ip(file);
  return usual(file, pieces, count);
}

ssize_t send(int socket, const void *bytes, size_t count, int flags) {
  ssize_t (*usual)(int, const void *, size_t, int) = dlsym(RTLD_NEXT, "send");
  hang_if_ip(socket);
  return usual(socket, bytes, count, flags);
}
