/* LD_PRELOAD: a lookup of a name that has "hanging" in it takes a minute, then fails. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found)
{
    int (*original)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (node && strstr(node, "hanging")) {
        sleep(60);
        return EAI_AGAIN;
    }
    *(void **)&original = dlsym(RTLD_NEXT, "getaddrinfo");
    return original(node, service, hints, found);
}
