/* Loaded in front of the C library by tests (LD_PRELOAD): a clock that jumps and a resolver that is slow or lies, as the file WORLD says, whose lines are
 *
 *     clock SECONDS                    that much is added to the time of day
 *     host NAME MILLISECONDS WORD…     the name's addresses come after that time; no word: it has none
 *
 * It is read again whenever somebody asks. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static FILE *world(void) { return getenv("WORLD") ? fopen(getenv("WORLD"), "re") : NULL; }

static long jump(void)
{
    long known = 0;
    char line[512];
    FILE *file = world();
    if (!file)
        return 0;
    while (fgets(line, sizeof(line), file))
        if (sscanf(line, "clock %ld", &known) == 1)
            break;
    fclose(file);
    return known;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int found = real(clock, time);
    if (found == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += jump();
    return found;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where)
        *where = now.tv_sec;
    return now.tv_sec;
}

typedef int getaddrinfo_fn(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *restrict name, const char *restrict service, const struct addrinfo *restrict hints, struct addrinfo **restrict result)
{
    getaddrinfo_fn *real = (getaddrinfo_fn *)dlsym(RTLD_NEXT, "getaddrinfo");
    FILE *file = name ? world() : NULL;
    char line[512], *rest, *word;
    int found = 1;   /* nobody has said anything of it */
    while (file && found == 1 && fgets(line, sizeof(line), file)) {
        if (!(word = strtok_r(line, " \n", &rest)) || strcmp(word, "host") != 0 || !(word = strtok_r(NULL, " \n", &rest)) || strcmp(word, name) != 0)
            continue;
        word = strtok_r(NULL, " \n", &rest);
        usleep((useconds_t)atoi(word ? word : "0") * 1000);
        found = EAI_NONAME;
        struct addrinfo **end = result, numeric = hints ? *hints : (struct addrinfo){0};
        numeric.ai_flags |= AI_NUMERICHOST;
        while ((word = strtok_r(NULL, " \n", &rest)))
            if (real(word, service, &numeric, end) == 0)
                for (found = 0; *end; end = &(*end)->ai_next)
                    ;
    }
    if (file)
        fclose(file);
    return found == 1 ? real(name, service, hints, result) : found;
}
