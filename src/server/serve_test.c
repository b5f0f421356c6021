/* godwit serve as its operator meets it: a process of its own for each story. */
#include "server/serve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_MS 20000

struct fixture {
    char directory[64];   /* for everything; removed at the end */
    char data[96];
};

struct process {
    pid_t id;
    int out, err;         /* what it writes */
    char said[4096];      /* on stderr, after process_wait */
    unsigned port;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    snprintf(f->directory, sizeof(f->directory), "/tmp/godwit-serve-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    snprintf(f->data, sizeof(f->data), "--data-dir=%s/data", f->directory);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", f->directory);
    int result = system(command);
    free(f);
    return result;
}

static struct process start(const char *a, const char *b, const char *c, const char *d)
{
    struct process p = {.id = -1};
    int out[2], err[2];
    char name[] = "serve";
    char http[] = "--http=off";   /* whose port another program may have */
    const char *words[] = {name, http, a, b, c, d, NULL};
    int count = 2;
    while (count < 6 && words[count])
        count++;
    assert_int_equal(pipe(out), 0);
    assert_int_equal(pipe(err), 0);
    p.id = fork();
    assert_true(p.id >= 0);
    if (p.id == 0) {
        dup2(out[1], STDOUT_FILENO);
        dup2(err[1], STDERR_FILENO);
        for (int descriptor = 3; descriptor < 20; descriptor++)
            close(descriptor);
        exit(serve_main(count, (char **)(uintptr_t)words));
    }
    close(out[1]);
    close(err[1]);
    p.out = out[0];
    p.err = err[0];
    return p;
}

static void read_all(int descriptor, char *text, size_t size)
{
    size_t used = 0;
    ssize_t got;
    while (used + 1 < size && (got = read(descriptor, text + used, size - 1 - used)) > 0)
        used += (size_t)got;
    text[used] = '\0';
}

static void expect_ready(struct process *p)
{
    char line[512] = "";
    size_t used = 0;
    struct pollfd wait = {p->out, POLLIN, 0};
    while (!strchr(line, '\n') && used + 1 < sizeof(line)) {
        assert_int_equal(poll(&wait, 1, WAIT_MS), 1);
        ssize_t got = read(p->out, line + used, sizeof(line) - 1 - used);
        if (got <= 0)
            break;
        used += (size_t)got;
        line[used] = '\0';
    }
    if (sscanf(line, "ready amqp://127.0.0.1:%u", &p->port) != 1)
        fail_msg("'%s' is not what it says when it is ready", line);
}

static int process_wait(struct process *p)
{
    int status = 0;
    read_all(p->err, p->said, sizeof(p->said));
    assert_int_equal(waitpid(p->id, &status, 0), p->id);
    close(p->out);
    close(p->err);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int stop(struct process *p)
{
    assert_int_equal(kill(p->id, SIGTERM), 0);
    return process_wait(p);
}

/* It ends by itself with this code and one line that has both parts in it. */
static void expect_refusal(struct process p, int code, const char *part, const char *other)
{
    assert_int_equal(process_wait(&p), code);
    if (!strstr(p.said, part) || !strstr(p.said, other) || strchr(p.said, '\n') != p.said + strlen(p.said) - 1)
        fail_msg("'%s' is not one line with '%s' and '%s'", p.said, part, other);
}

static int dial(unsigned port)
{
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(s, (struct sockaddr *)&address, sizeof(address)), 0);
    return s;
}

static void starts_answers_and_stops(void **state)
{
    struct fixture *f = *state;
    for (unsigned round = 0; round < 2; round++) {
        struct process p = start(f->data, "--amqp-port=0", "--reactors=2", round ? "--disk=threads" : NULL);
        expect_ready(&p);
        int s = dial(p.port);
        char answer[8];
        assert_int_equal(send(s, "AMQP\0\0\11\1", 8, 0), 8);
        assert_int_equal(recv(s, answer, 7, MSG_WAITALL), 7);
        assert_int_equal(answer[0], 1);   /* a method frame: connection.start */
        close(s);
        assert_int_equal(stop(&p), 0);
    }
    struct stat status;
    char path[128];
    snprintf(path, sizeof(path), "%s/data", f->directory);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
}

/* A peer that neither speaks nor goes away does not keep it. */
static void silent_peers_do_not_keep_it(void **state)
{
    struct fixture *f = *state;
    struct process p = start(f->data, "--amqp-port=0", "--reactors=1", NULL);
    expect_ready(&p);
    int s = dial(p.port);
    usleep(50000);
    assert_int_equal(kill(p.id, SIGTERM), 0);
    usleep(50000);
    assert_int_equal(kill(p.id, SIGINT), 0);
    assert_int_equal(process_wait(&p), 0);
    close(s);
}

static void what_is_taken_is_named(void **state)
{
    struct fixture *f = *state;
    struct process p = start(f->data, "--amqp-port=0", "--listen=127.0.0.1", NULL);
    char port[32], holder[32];
    expect_ready(&p);
    snprintf(holder, sizeof(holder), "process %ld", (long)p.id);
    expect_refusal(start(f->data, "--amqp-port=0", NULL, NULL), 1, "in use", holder);
    snprintf(port, sizeof(port), "--amqp-port=%u", p.port);
    char other[160], data[128];
    snprintf(data, sizeof(data), "%s/other", f->directory);
    snprintf(other, sizeof(other), "--data-dir=%s", data);
    expect_refusal(start(other, port, "--listen=127.0.0.1", NULL), 1, "cannot listen", "another program");
    assert_int_equal(access(data, F_OK), -1);
    assert_int_equal(stop(&p), 0);
}

static void bad_directories_and_settings(void **state)
{
    struct fixture *f = *state;
    char path[128], option[160];
    snprintf(option, sizeof(option), "--data-dir=%s/no/such", f->directory);
    expect_refusal(start(option, "--amqp-port=0", NULL, NULL), 1, "/no/such", "parent");
    expect_refusal(start("--data-dir=/dev/null", "--amqp-port=0", NULL, NULL), 1, "/dev/null", "--data-dir");
    expect_refusal(start("--data-dri=x", NULL, NULL, NULL), 2, "--data-dri", "--data-dir");
    expect_refusal(start(f->data, "--listen=nowhere", NULL, NULL), 2, "--listen", "nowhere");
    expect_refusal(start(f->data, "--listen=192.0.2.1", "--amqp-port=0", NULL), 1, "192.0.2.1", "--listen");

    snprintf(path, sizeof(path), "%s/data", f->directory);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/data/godwit", f->directory);
    FILE *file = fopen(path, "w");
    fputs("godwit data 99, shards 4\n", file);
    fclose(file);
    expect_refusal(start(f->data, "--amqp-port=0", NULL, NULL), 1, "another version", "another directory");
}

static void the_service_manager_is_told(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char text[64];
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", f->directory);
    int s = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(s, (struct sockaddr *)&address, sizeof(address)), 0);
    setenv("NOTIFY_SOCKET", address.sun_path, 1);
    struct process p = start(f->data, "--amqp-port=0", NULL, NULL);
    unsetenv("NOTIFY_SOCKET");
    expect_ready(&p);
    struct pollfd wait = {s, POLLIN, 0};
    assert_int_equal(poll(&wait, 1, WAIT_MS), 1);
    ssize_t size = recv(s, text, sizeof(text), 0);
    assert_int_equal(size, 7);
    assert_memory_equal(text, "READY=1", 7);
    assert_int_equal(stop(&p), 0);
    size = recv(s, text, sizeof(text), MSG_DONTWAIT);
    assert_int_equal(size, 10);
    assert_memory_equal(text, "STOPPING=1", 10);
    close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(starts_answers_and_stops, set_up, tear_down),
        cmocka_unit_test_setup_teardown(silent_peers_do_not_keep_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_taken_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_directories_and_settings, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_service_manager_is_told, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("serve", tests, NULL, NULL);
}
