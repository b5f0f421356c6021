#include "runtime/resolver.h"

#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

struct resolver {
    atomic_int references;         /* the asker's, and the thread's while it looks up */
    int event;
    atomic_bool done;              /* what follows may be read */
    int error;                     /* of getaddrinfo */
    struct addrinfo *addresses;
    char *host;                    /* its own text follows the struct */
    char port[8];
};

static void release(struct resolver *resolver)
{
    if (atomic_fetch_sub(&resolver->references, 1) > 1)
        return;
    if (resolver->addresses)
        freeaddrinfo(resolver->addresses);
    close(resolver->event);
    free(resolver);
}

static void look_up(struct resolver *resolver, int flags)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};
    resolver->error = getaddrinfo(resolver->host, resolver->port, &hints, &resolver->addresses);
    if (resolver->error)
        resolver->addresses = NULL;
}

static void tell(struct resolver *resolver)
{
    uint64_t one = 1;
    atomic_store(&resolver->done, true);
    ssize_t written = write(resolver->event, &one, sizeof(one));
    (void)written;   /* A counter that is at zero takes it. */
}

static void *run(void *argument)
{
    struct resolver *resolver = argument;
    look_up(resolver, AI_ADDRCONFIG);
    tell(resolver);
    release(resolver);
    return NULL;
}

struct resolver *resolver_new(const char *host, uint16_t port)
{
    size_t size = strlen(host) + 1;
    struct resolver *resolver = malloc(sizeof(*resolver) + size);
    if (!resolver)
        return NULL;
    *resolver = (struct resolver){.references = 1, .event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .host = (char *)(resolver + 1)};
    memcpy(resolver->host, host, size);
    snprintf(resolver->port, sizeof(resolver->port), "%u", port);
    if (resolver->event < 0) {
        free(resolver);
        return NULL;
    }
    /* /etc/hosts is a file; only what may ask the network goes to a thread. */
    look_up(resolver, AI_NUMERICHOST);
    if (!resolver->error || strcmp(host, "localhost") == 0) {
        if (resolver->error)
            look_up(resolver, 0);
        tell(resolver);
        return resolver;
    }
    pthread_t thread;
    pthread_attr_t attributes;
    atomic_store(&resolver->references, 2);
    if (pthread_attr_init(&attributes) == 0) {
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attributes, 256u * 1024u);
        int failed = pthread_create(&thread, &attributes, run, resolver);
        pthread_attr_destroy(&attributes);
        if (!failed)
            return resolver;
    }
    atomic_store(&resolver->references, 1);
    release(resolver);
    return NULL;
}

int resolver_fd(const struct resolver *resolver)
{
    return resolver->event;
}

const struct addrinfo *resolver_answer(struct resolver *resolver, const char **why)
{
    *why = "it is still looked up";
    if (!atomic_load(&resolver->done))
        return NULL;
    *why = resolver->error ? gai_strerror(resolver->error) : "it has no address";
    return resolver->addresses;
}

void resolver_free(struct resolver *resolver)
{
    if (resolver)
        release(resolver);
}
