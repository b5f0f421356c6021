/* Feeds of this machine: files that grow, are replaced and cut off, directories, sockets, processes, signals. (HTTP's are tested with real servers.) */
#include "runtime/feeder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define WAIT_MS 10000u

struct ear {
    struct feed feed;                /* first */
    struct feeder_set *set;
    uv_loop_t loop;
    uv_timer_t timer;
    char folder[64], path[128];
    char heard[98304];
    uint64_t begin_at;               /* what `opened` answers for files; UINT64_MAX: their size */
    bool is_late;
    size_t size;                     /* bytes that came */
};

static struct ear *ear_of(struct feed *feed) { return (struct ear *)feed; }

__attribute__((format(printf, 2, 3)))
static void note(struct ear *ear, const char *format, ...)
{
    size_t size = strlen(ear->heard);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(ear->heard + size, sizeof(ear->heard) - size, format, arguments);
    va_end(arguments);
}

static void on_opened(struct feed *feed, struct feed_opening *opening)
{
    struct ear *ear = ear_of(feed);
    opening->offset = ear->begin_at == UINT64_MAX ? opening->size : ear->begin_at;
    ear->begin_at = 0;
    note(ear, "<opened %u>", (unsigned)opening->size);
}

static void on_came(struct feed *feed, uint64_t stream, struct bytes data)
{
    (void)stream;
    ear_of(feed)->size += data.size;
    note(ear_of(feed), "%.*s", (int)data.size, (const char *)data.data);
}

static void on_closed(struct feed *feed, uint64_t stream)
{
    (void)stream;
    note(ear_of(feed), "<closed>");
}

static void on_listed(struct feed *feed, const struct feed_file *files, unsigned count, bool whole)
{
    note(ear_of(feed), "<listed%s", whole ? "" : " in part");
    for (unsigned i = 0; i < count; i++)
        note(ear_of(feed), " %.*s:%u", (int)files[i].name.size, (const char *)files[i].name.data, (unsigned)files[i].size);
    note(ear_of(feed), ">");
}

static void on_signalled(struct feed *feed, int number) { note(ear_of(feed), "<signal %d>", number); }
static void on_ended(struct feed *feed, const struct feed_end *end) { note(ear_of(feed), "<ended %d %d %d %s>", end->outcome, end->status, end->signal, end->why); }

static const struct feed_events events = {.opened = on_opened, .came = on_came, .closed = on_closed, .listed = on_listed, .signalled = on_signalled, .ended = on_ended};

static void told(void *owner) { (void)owner; }
static void on_late(uv_timer_t *timer) { ((struct ear *)timer->data)->is_late = true; }

static void begin(struct ear *ear, struct feed_request request)
{
    *ear = (struct ear){.begin_at = ear->begin_at};
    strcpy(ear->folder, "/tmp/godwit-feeder-XXXXXX");
    assert_non_null(mkdtemp(ear->folder));
    snprintf(ear->path, sizeof(ear->path), "%s/file", ear->folder);
    assert_int_equal(uv_loop_init(&ear->loop), 0);
    uv_timer_init(&ear->loop, &ear->timer);
    ear->timer.data = ear;
    ear->set = feeder_set_new(&(struct feeder_config){.loop = &ear->loop, .told = told, .owner = ear});
    ear->feed.events = &events;
    if (!request.address)
        request.address = request.kind == FEED_DIRECTORY ? ear->folder : ear->path;
    request.connections_max = 2;
    assert_true(feeder_set_io(ear->set)->begin(feeder_set_io(ear->set), &ear->feed, &request));
}

/* Lives until that was heard; forgets it. */
static void wait_for(struct ear *ear, const char *expected)
{
    ear->is_late = false;
    uv_timer_start(&ear->timer, on_late, WAIT_MS, 0);
    while (!strstr(ear->heard, expected) && !ear->is_late)
        uv_run(&ear->loop, UV_RUN_ONCE);
    uv_timer_stop(&ear->timer);
    if (ear->is_late)
        fail_msg("without %s: %s", expected, ear->heard);
    char *at = strstr(ear->heard, expected) + strlen(expected);
    memmove(ear->heard, at, strlen(at) + 1);
}

static void end(struct ear *ear)
{
    if (ear->feed.transport)
        feeder_set_io(ear->set)->cancel(feeder_set_io(ear->set), &ear->feed);
    feeder_set_free(ear->set);
    uv_close((uv_handle_t *)&ear->timer, NULL);
    uv_run(&ear->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&ear->loop), 0);
    char command[160];
    snprintf(command, sizeof(command), "rm -rf %s", ear->folder);
    assert_int_equal(system(command), 0);
}

static void write_to(const char *path, const char *mode, const char *text)
{
    FILE *file = fopen(path, mode);
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void a_file_is_waited_for_and_followed(void **state)
{
    (void)state;
    struct ear ear = {0};
    char old[140];
    begin(&ear, (struct feed_request){.kind = FEED_FILE});
    uv_run(&ear.loop, UV_RUN_NOWAIT);
    write_to(ear.path, "a", "one\n");
    wait_for(&ear, "<opened ");
    wait_for(&ear, "one\n");
    write_to(ear.path, "a", "two\n");
    wait_for(&ear, "two\n");
    /* Replaced: what is still written to the old one comes first. */
    snprintf(old, sizeof(old), "%s.1", ear.path);
    assert_int_equal(rename(ear.path, old), 0);
    write_to(old, "a", "late\n");
    write_to(ear.path, "a", "new\n");
    wait_for(&ear, "late\n");
    wait_for(&ear, "<closed><opened 4>new\n");
    /* Cut off, and shorter. */
    write_to(ear.path, "w", "x\n");
    wait_for(&ear, "x\n");
    /* Written anew, and longer than it was. */
    write_to(ear.path, "w", "other and longer\n");
    wait_for(&ear, "other and longer\n");
    end(&ear);
}

static void a_file_is_known_by_its_inode(void **state)
{
    (void)state;
    struct ear ear = {.begin_at = 4};
    struct stat stat_;
    char folder[] = "/tmp/godwit-feeder-XXXXXX", path[80], old[80];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/log", folder);
    snprintf(old, sizeof(old), "%s/log.1", folder);
    write_to(old, "w", "one\ntwo\n");
    write_to(path, "w", "three\n");
    assert_int_equal(stat(old, &stat_), 0);
    begin(&ear, (struct feed_request){.kind = FEED_FILE, .address = path, .inode = stat_.st_ino});
    wait_for(&ear, "<opened 8>two\n<closed><opened 6>three\n");
    end(&ear);
    unlink(path);
    unlink(old);
    rmdir(folder);
}

static void files_that_were_rotated_meanwhile_are_read_in_their_order(void **state)
{
    (void)state;
    struct ear ear = {.begin_at = 4};
    struct stat stat_;
    char folder[] = "/tmp/godwit-feeder-XXXXXX", path[5][80];
    /* The oldest first; the last two are no rotated ones. */
    static const char *const names[] = {"log.3", "log.2", "log-20260329", "log.2.gz", "log.bak"};
    static const char *const texts[] = {"one\ntwo\n", "three\n", "four\n", "packed", "other\n"};
    assert_non_null(mkdtemp(folder));
    for (unsigned i = 0; i < 5; i++) {
        snprintf(path[i], sizeof(path[i]), "%s/%s", folder, names[i]);
        write_to(path[i], "w", texts[i]);
        const struct timespec times[2] = {{1000 + i, 0}, {1000 + i, 0}};
        assert_int_equal(utimensat(AT_FDCWD, path[i], times, 0), 0);
    }
    char now[80];
    snprintf(now, sizeof(now), "%s/log", folder);
    write_to(now, "w", "five\n");
    assert_int_equal(stat(path[0], &stat_), 0);
    begin(&ear, (struct feed_request){.kind = FEED_FILE, .address = now, .inode = stat_.st_ino});
    wait_for(&ear, "<opened 8>two\n<closed><opened 6>three\n<closed><opened 5>four\n<closed><opened 5>five\n");
    end(&ear);
    for (unsigned i = 0; i < 5; i++)
        unlink(path[i]);
    unlink(now);
    rmdir(folder);
}

#define CROWD 300u

/* Files in the same folder, and that folder itself, each followed by somebody else: more than the system has instances of inotify. */
static void a_crowd_of_files_is_followed(void **state)
{
    (void)state;
    struct ear ear = {0};
    static struct ear others[CROWD];
    begin(&ear, (struct feed_request){.kind = FEED_FILE});
    struct feeder *io = feeder_set_io(ear.set);
    char path[160];
    for (unsigned i = 0; i < CROWD; i++) {
        others[i] = (struct ear){.feed = {.events = &events}};
        snprintf(path, sizeof(path), "%s/%u", ear.folder, i / 2);
        write_to(path, "a", "");
        bool is_folder = i % 50 == 49;
        assert_true(io->begin(io, &others[i].feed, &(struct feed_request){.kind = is_folder ? FEED_DIRECTORY : FEED_FILE, .address = is_folder ? ear.folder : path}));
    }
    write_to(ear.path, "a", "the last\n");
    wait_for(&ear, "the last\n");
    /* They are told of it, and do not have to look. */
    for (unsigned i = 0; i < CROWD; i += 2) {
        snprintf(path, sizeof(path), "%s/%u", ear.folder, i / 2);
        write_to(path, "a", "x");
    }
    ear.is_late = false;
    uv_timer_start(&ear.timer, on_late, 2500, 0);
    for (unsigned left = 1; left && !ear.is_late;) {
        uv_run(&ear.loop, UV_RUN_ONCE);
        left = 0;
        for (unsigned i = 0; i < CROWD; i++)
            left += i % 50 == 49 ? !strstr(others[i].heard, " 149:1 ") : others[i].size != 1;
    }
    assert_false(ear.is_late);
    for (unsigned i = 0; i < CROWD; i++)
        io->cancel(io, &others[i].feed);
    end(&ear);
}

struct rotation {
    char folder[40];
    _Atomic bool is_over;
    unsigned shifted;                /* by how much the names' numbers have grown */
};

#define ROTATED 6u
#define OTHERS 3000u                 /* files of other names, so that looking through the directory takes its time */

/* What logrotate does once a day, again and again for 60 ms, and not for 140 ms: log.6 becomes log.7, then log.5 log.6, … */
static void *rotate(void *context)
{
    struct rotation *rotation = context;
    char from[80], to[80];
    for (uint64_t begun_ns = uv_hrtime(); !rotation->is_over; rotation->shifted++) {
        if ((uv_hrtime() - begun_ns) / 1000000 % 200 >= 60)
            usleep(140000);
        for (unsigned i = ROTATED; i > 0; i--) {
            snprintf(from, sizeof(from), "%s/log.%u", rotation->folder, rotation->shifted + i);
            snprintf(to, sizeof(to), "%s/log.%u", rotation->folder, rotation->shifted + i + 1);
            rename(from, to);
        }
    }
    return NULL;
}

/* Which file has which name changes while they are looked for. */
static void files_that_are_being_rotated_are_read_in_their_order(void **state)
{
    (void)state;
    struct ear ear = {.begin_at = 0};
    struct rotation rotation = {.folder = "/tmp/godwit-feeder-XXXXXX"};
    struct stat stat_;
    char path[80], other[80], text[20];
    pthread_t thread;
    assert_non_null(mkdtemp(rotation.folder));
    for (unsigned i = ROTATED + 1; i-- > 0;) {
        snprintf(path, sizeof(path), i ? "%s/log.%u" : "%s/log", rotation.folder, i);
        snprintf(text, sizeof(text), "%u\n", i);
        write_to(path, "w", text);
        const struct timespec times[2] = {{2000 - i, 0}, {2000 - i, 0}};
        assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
        if (i == ROTATED)
            assert_int_equal(stat(path, &stat_), 0);
    }
    for (unsigned i = 0; i < OTHERS; i++) {
        snprintf(other, sizeof(other), "%s/other%u", rotation.folder, i);
        write_to(other, "w", "");
    }
    assert_int_equal(pthread_create(&thread, NULL, rotate, &rotation), 0);
    begin(&ear, (struct feed_request){.kind = FEED_FILE, .address = path, .inode = stat_.st_ino});
    wait_for(&ear, "<opened 2>6\n<closed><opened 2>5\n<closed><opened 2>4\n<closed><opened 2>3\n<closed><opened 2>2\n<closed><opened 2>1\n<closed><opened 2>0\n");
    end(&ear);
    rotation.is_over = true;
    pthread_join(thread, NULL);
    for (unsigned i = 0; i < OTHERS; i++) {
        snprintf(other, sizeof(other), "%s/other%u", rotation.folder, i);
        unlink(other);
    }
    for (unsigned i = 1; i <= ROTATED; i++) {
        snprintf(path, sizeof(path), "%s/log.%u", rotation.folder, rotation.shifted + i);
        assert_int_equal(unlink(path), 0);
    }
    snprintf(path, sizeof(path), "%s/log", rotation.folder);
    unlink(path);
    rmdir(rotation.folder);
}

static void a_file_that_is_held_is_read_later(void **state)
{
    (void)state;
    struct ear ear = {0};
    begin(&ear, (struct feed_request){.kind = FEED_FILE});
    write_to(ear.path, "a", "one\n");
    wait_for(&ear, "one\n");
    struct feeder *io = feeder_set_io(ear.set);
    io->pause(io, &ear.feed, true);
    write_to(ear.path, "a", "two\n");
    for (unsigned i = 0; i < 20; i++) {
        uv_run(&ear.loop, UV_RUN_NOWAIT);
        usleep(1000);
    }
    assert_null(strstr(ear.heard, "two"));
    io->pause(io, &ear.feed, false);
    wait_for(&ear, "two\n");
    end(&ear);
}

static void what_is_no_file_is_told(void **state)
{
    (void)state;
    struct ear ear = {0};
    begin(&ear, (struct feed_request){.kind = FEED_FILE, .address = "/tmp"});
    wait_for(&ear, "<ended 3 0 0 /tmp is no file that can be read line by line.>");
    end(&ear);
    begin(&ear, (struct feed_request){.kind = FEED_FILE, .address = "/nowhere/x"});
    wait_for(&ear, "<ended 2 0 0 /nowhere/x cannot be opened: No such file or directory.>");
    end(&ear);
}

static void a_directory_is_listed_when_something_happens(void **state)
{
    (void)state;
    struct ear ear = {0};
    begin(&ear, (struct feed_request){.kind = FEED_DIRECTORY});
    wait_for(&ear, "<listed>");
    write_to(ear.path, "w", "abc");
    wait_for(&ear, " file:3>");
    feeder_set_io(ear.set)->look_again(feeder_set_io(ear.set), &ear.feed);
    wait_for(&ear, "<listed file:3>");
    unlink(ear.path);
    wait_for(&ear, "<listed>");
    rmdir(ear.folder);
    wait_for(&ear, "<ended 2 ");
    end(&ear);
}

static int connect_to(struct ear *ear, uint16_t port)
{
    struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    int s = socket(port ? AF_INET : AF_UNIX, SOCK_STREAM, 0);
    snprintf(local.sun_path, sizeof(local.sun_path), "%.100s", ear->path);
    for (unsigned i = 0; i < 100; i++) {
        uv_run(&ear->loop, UV_RUN_NOWAIT);
        if ((port ? connect(s, (struct sockaddr *)&tcp, sizeof(tcp)) : connect(s, (struct sockaddr *)&local, sizeof(local))) == 0)
            return s;
        usleep(1000);
    }
    fail();
    return -1;
}

static void say(int s, const char *text) { assert_int_equal(write(s, text, strlen(text)), (ssize_t)strlen(text)); }

static void callers_are_heard(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 2; kind++) {
        struct ear ear = {0};
        struct sockaddr_in free_ = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        socklen_t size = sizeof(free_);
        char address[40];
        int probe = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(bind(probe, (struct sockaddr *)&free_, sizeof(free_)), 0);
        assert_int_equal(getsockname(probe, (struct sockaddr *)&free_, &size), 0);
        close(probe);
        uint16_t port = kind ? 0 : ntohs(free_.sin_port);
        snprintf(address, sizeof(address), "127.0.0.1:%u", port);
        begin(&ear, (struct feed_request){.kind = kind ? FEED_UNIX : FEED_TCP, .address = kind ? NULL : address});
        uv_run(&ear.loop, UV_RUN_NOWAIT);
        assert_string_equal(ear.heard, "<opened 0>");
        int first = connect_to(&ear, port), second = connect_to(&ear, port);
        say(first, "hello\n");
        wait_for(&ear, "hello\n");
        say(second, "and I\n");
        wait_for(&ear, "and I\n");
        /* A third one is too many. */
        int third = connect_to(&ear, port);
        char c;
        for (unsigned i = 0; i < 100 && recv(third, &c, 1, MSG_DONTWAIT) != 0; i++) {
            uv_run(&ear.loop, UV_RUN_NOWAIT);
            usleep(1000);
        }
        assert_int_equal(recv(third, &c, 1, MSG_DONTWAIT), 0);
        close(third);
        close(first);
        wait_for(&ear, "<closed>");
        close(second);
        wait_for(&ear, "<closed>");
        end(&ear);
    }
}

static void an_address_in_use_is_told(void **state)
{
    (void)state;
    struct ear ear = {0};
    begin(&ear, (struct feed_request){.kind = FEED_TCP, .address = "nowhere"});
    wait_for(&ear, "<ended 2 0 0 nowhere cannot be listened at: invalid argument.>");
    end(&ear);
    begin(&ear, (struct feed_request){.kind = FEED_UNIX, .address = "/nowhere/socket"});
    wait_for(&ear, "<ended 2 0 0 /nowhere/socket cannot be listened at: no such file or directory.>");
    end(&ear);
}

static void a_process_is_heard_to_its_end(void **state)
{
    (void)state;
    struct ear ear = {0};
    begin(&ear, (struct feed_request){.kind = FEED_PROCESS, .argv = (const char *const[]){"sh", "-c", "echo one; echo two; exit 3", NULL}});
    wait_for(&ear, "one\ntwo\n<ended 0 3 0 >");
    end(&ear);
    begin(&ear, (struct feed_request){.kind = FEED_PROCESS, .argv = (const char *const[]){"/nowhere/program", NULL}});
    wait_for(&ear, "<ended 2 0 0 /nowhere/program cannot be started: no such file or directory.>");
    end(&ear);
    /* One that is not wanted any more is ended. */
    begin(&ear, (struct feed_request){.kind = FEED_PROCESS, .argv = (const char *const[]){"sh", "-c", "echo $$; exec sleep 100", NULL}});
    wait_for(&ear, "\n");
    end(&ear);
}

/* What it wrote before its end stays in the pipe for as long as it is held; what others write who have the pipe open as well is not waited for. */
static void a_process_that_has_ended_is_heard_when_there_is_room(void **state)
{
    (void)state;
    struct ear ear = {0};
    begin(&ear, (struct feed_request){.kind = FEED_PROCESS, .argv = (const char *const[]){"sh", "-c", "while sleep 0.3; do echo more; done & yes one | head -20000; kill -9 $$", NULL}});
    struct feeder *io = feeder_set_io(ear.set);
    io->pause(io, &ear.feed, true);
    ear.is_late = false;
    uv_timer_start(&ear.timer, on_late, 1500, 0);
    while (!ear.is_late)
        uv_run(&ear.loop, UV_RUN_ONCE);
    assert_string_equal(ear.heard, "<opened 0>");
    io->pause(io, &ear.feed, false);
    wait_for(&ear, "<ended 0 0 9 >");
    assert_true(ear.size >= 80000);
    end(&ear);
}

static void signals_are_told(void **state)
{
    (void)state;
    struct ear ear = {0};
    begin(&ear, (struct feed_request){.kind = FEED_SIGNAL, .number = SIGUSR2});
    kill(getpid(), SIGUSR2);
    wait_for(&ear, "<signal 12>");
    end(&ear);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_waited_for_and_followed), cmocka_unit_test(a_file_is_known_by_its_inode),
        cmocka_unit_test(files_that_were_rotated_meanwhile_are_read_in_their_order), cmocka_unit_test(files_that_are_being_rotated_are_read_in_their_order),
        cmocka_unit_test(a_crowd_of_files_is_followed), cmocka_unit_test(a_file_that_is_held_is_read_later),
        cmocka_unit_test(what_is_no_file_is_told), cmocka_unit_test(a_directory_is_listed_when_something_happens), cmocka_unit_test(callers_are_heard), cmocka_unit_test(an_address_in_use_is_told),
        cmocka_unit_test(a_process_is_heard_to_its_end), cmocka_unit_test(a_process_that_has_ended_is_heard_when_there_is_room),
        cmocka_unit_test(signals_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
