/* Messages that somebody moves and copies, while the machine goes down between any two writes of its disk. */
#include "broker/test_broker.h"

#include "broker/worker_internal.h"
#include "store/test_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)
#define MESSAGES 4u

struct play {
    struct test_broker test;
    struct test_disk *disk;
    struct test_client *client;
    char source[16], target[16];
};

static void open_play(struct play *play)
{
    test_broker_open(&play->test, 2, 3, test_disk_face(play->disk), 0);
    play->client = test_client_new(&play->test, 1);
}

static void go_on(struct play *play)
{
    unsigned broken = 0;
    do
        test_settle_down(&play->test);
    while (test_disk_step(play->disk) && (broken += test_disk_crashed(play->disk)) < 20);
}

static void crash(struct play *play, enum test_disk_loss loss)
{
    test_disk_run(play->disk);
    if (!test_disk_crashed(play->disk))
        test_disk_crash_at(play->disk, test_disk_operations(play->disk) + 1);
    test_client_free(play->client);
    broker_close(play->test.broker);
    broker_free(play->test.broker);
    test_disk_run(play->disk);
    test_disk_restart(play->disk, loss);
    open_play(play);
    go_on(play);
}

/* What was said to a request; NULL: nothing yet. */
static const char *ask(struct play *play, struct request request)
{
    play->client->count = play->client->seen = 0;
    client_request(&play->client->client, &request);
    go_on(play);
    for (unsigned i = 0; i < play->client->count; i++)
        if (play->client->events[i].kind == EVENT_REPLY)
            return play->client->events[i].text;
    return NULL;
}

static void declare_in(struct play *play, char *name, const char *prefix, unsigned shard)
{
    unsigned i = 0;
    do
        snprintf(name, 16, "%s%u", prefix, i++);
    while (bytes_hash(TEXT(name), 0) % play->test.broker->shards != shard);
    assert_non_null(ask(play, (struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE, .name = TEXT(name)}));
}

/* How often each message lies in the queue; it is taken out. */
static void count(struct play *play, const char *queue, unsigned counts[MESSAGES])
{
    memset(counts, 0, MESSAGES * sizeof(*counts));
    for (bool more = true; more;) {
        more = false;
        ask(play, (struct request){.kind = REQUEST_GET, .name = TEXT(queue), .flags = REQUEST_NO_ACK});
        for (unsigned i = 0; i < play->client->count; i++)
            if (play->client->events[i].kind == EVENT_DELIVERY) {
                counts[play->client->events[i].body[0] - '0']++;
                more = true;
            }
    }
}

static const char *send_them(struct play *play, const char *command)
{
    char json[200];
    snprintf(json, sizeof(json), "{\"command\":\"%s\",\"name\":\"%s\",\"target\":\"%s\",\"all\":true}", command, play->source, play->target);
    return ask(play, (struct request){.kind = REQUEST_CONTROL, .source = TEXT("guest"), .arguments = TEXT(json)});
}

/* Answers how many operations of the disk it takes. `operation` 0: nothing goes wrong before it is done. */
static uint64_t crash_in_sending(const char *command, unsigned shard, uint64_t operation, enum test_disk_loss loss)
{
    struct play play = {.disk = test_disk_new(operation * 7 + shard)};
    bool copies = strcmp(command, "queue_copy") == 0;
    unsigned here[MESSAGES], there[MESSAGES];
    char answer[200];
    open_play(&play);
    declare_in(&play, play.source, "s", 0);
    declare_in(&play, play.target, "t", shard);
    for (unsigned i = 0; i < MESSAGES; i++)
        assert_int_equal(test_publish(play.client, "", play.source, (char[]){(char)('0' + i), 0}, 0, true, NULL), PUBLISH_ROUTED);
    go_on(&play);
    uint64_t before = test_disk_operations(play.disk);
    if (operation)
        test_disk_crash_at(play.disk, before + operation);
    const char *said = send_them(&play, command);
    uint64_t operations = test_disk_operations(play.disk) - before;
    snprintf(answer, sizeof(answer), "{\"ok\":{\"%s\":%u,\"refused\":0,\"scanned\":%u,\"next\":null}}", copies ? "copied" : "moved", MESSAGES, MESSAGES);
    bool done = said && strcmp(said, answer) == 0;
    assert_true(operation || done);
    crash(&play, loss);
    crash(&play, LOSE_ALL);   /* and it stays so */
    count(&play, play.source, here);
    count(&play, play.target, there);
    for (unsigned i = 0; i < MESSAGES; i++) {
        assert_true(there[i] <= 1);
        assert_int_equal(here[i], copies ? 1 : !there[i]);
        assert_true(!done || there[i]);
    }
    test_client_free(play.client);
    test_broker_close(&play.test);
    test_disk_free(play.disk);
    return operations;
}

static void crash_everywhere(const char *command)
{
    for (unsigned shard = 0; shard < 3; shard++) {
        uint64_t operations = crash_in_sending(command, shard, 0, LOSE_ALL);
        assert_true(operations > 0);
        for (uint64_t at = 1; at <= operations; at++)
            crash_in_sending(command, shard, at, at % 3 == 0 ? LOSE_ALL : at % 3 == 1 ? LOSE_SOME : LOSE_NOTHING);
    }
}

static void moved_messages_are_in_one_place_whatever_crashes(void **state)
{
    (void)state;
    crash_everywhere("queue_move");
}

static void copied_messages_are_there_once_and_stay(void **state)
{
    (void)state;
    crash_everywhere("queue_copy");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moved_messages_are_in_one_place_whatever_crashes),
        cmocka_unit_test(copied_messages_are_there_once_and_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
