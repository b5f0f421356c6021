#include "cli/visit.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

int visit_uri(struct console *console, const struct visit_settings *settings, struct uri *uri)
{
    const char *complaint, *text = settings->uri;
    if (!text)
        text = getenv("GODWIT_URI");
    if (uri_parse(uri, text ? text : "", &complaint) == GW_OK)
        return EXIT_DONE;
    console_complain(console, "%s: %s", settings->uri ? "--uri" : "GODWIT_URI", complaint);
    return EXIT_USAGE;
}

int visit_open(struct visit *visit, const struct command *command, const struct visit_settings *settings,
               const struct remote_events *events)
{
    struct uri uri;
    sigset_t signals;
    console_init(&visit->console, command->name);
    int code = visit_uri(&visit->console, settings, &uri);
    if (code)
        return code;
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    visit->signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    if (visit->signal_fd < 0) {
        console_complain(&visit->console, "cannot wait for signals: %s", strerror(errno));
        return EXIT_FAILED;
    }
    char name[64];
    snprintf(name, sizeof name, "godwit %s", command->name);
    visit->remote = remote_new(&(struct remote_settings){.uri = &uri, .name = name, .wake_fd = visit->signal_fd}, events);
    if (!visit->remote) {
        console_complain(&visit->console, "out of memory");
        close(visit->signal_fd);
        return EXIT_FAILED;
    }
    if (remote_connect(visit->remote)) {
        visit_failed(visit);
        visit_close(visit);
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

int visit_failed(struct visit *visit)
{
    console_complain(&visit->console, "%s", remote_error(visit->remote));
    return EXIT_FAILED;
}

bool visit_interrupted(struct visit *visit)
{
    struct signalfd_siginfo info;
    bool interrupted = false;
    while (read(visit->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        interrupted = true;
    return interrupted;
}

void visit_close(struct visit *visit)
{
    console_clear(&visit->console);
    remote_close(visit->remote);
    remote_free(visit->remote);
    close(visit->signal_fd);
}
