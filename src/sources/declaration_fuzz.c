/* A declaration in JSON, a zero, and a position: what is read keeps its bounds and is read again from what it is written as; a source begins at any position, and takes whatever comes. */
#include "sources/source.h"

#include "base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool publish(struct source_sink *sink, const struct source_event *event, uint64_t ticket)
{
    (void)sink, (void)ticket;
    CHECK(event->type.size && event->type.size <= UINT8_MAX && event->id.size && event->id.size <= UINT8_MAX && event->key.size <= UINT8_MAX && event->subject.size <= UINT8_MAX);
    return true;
}

static bool save(struct source_sink *sink, struct bytes position)
{
    (void)sink;
    json_t *root = json_loadb((const char *)position.data, position.size, 0, NULL);
    CHECK(json_is_object(root));
    json_decref(root);
    return true;
}

static void due(struct source_sink *sink) { (void)sink; }

static void clock_now(struct source_sink *sink, uint64_t *now_us, uint64_t *wall_us)
{
    (void)sink;
    *now_us = 1000000000u;
    *wall_us = 1774742400000000u;
}

static bool begin(struct feeder *feeder, struct feed *feed, const struct feed_request *request)
{
    for (unsigned i = 0; i < request->header_count; i++)
        CHECK(!strpbrk(request->headers[i], "\r\n"));
    feed->transport = feeder;
    return true;
}

static void pause_feed(struct feeder *feeder, struct feed *feed, bool paused) { (void)feeder, (void)feed, (void)paused; }
static void look_again(struct feeder *feeder, struct feed *feed) { (void)feeder, (void)feed; }
static void cancel(struct feeder *feeder, struct feed *feed) { (void)feeder, feed->transport = NULL; }

static bool header(const void *owner, struct bytes name, struct bytes *value)
{
    (void)owner, (void)name;
    *value = bytes_of_text("text/event-stream");
    return true;
}

static void run(struct declaration *declaration, struct bytes position)
{
    struct source_sink sink = {.publish = publish, .save = save, .due = due, .clock = clock_now};
    struct feeder feeder = {.begin = begin, .pause = pause_feed, .look_again = look_again, .cancel = cancel};
    struct source *source = source_new(declaration, &sink, &feeder, NULL, 1);
    CHECK(source);
    source_start(source, position);
    source_tick(source);
    struct feed *feed = (struct feed *)(void *)source;   /* it is its first member */
    if (feed->transport && feed->events) {
        static const struct feed_file file = {{(const uint8_t *)"name", 4}, 1, 2, 3};
        feed->events->opened(feed, &(struct feed_opening){.status = 200, .header = header, .inode = 1, .size = 3, .head = bytes_of_text("abc")});
        if (feed->transport)
            feed->events->came(feed, 0, position);
        if (feed->transport)
            feed->events->listed(feed, &file, 1, true);
        if (feed->transport)
            feed->events->signalled(feed, 1);
    }
    source_tick(source);
    json_decref(source_describe(source));
    source_free(source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct declaration declaration, again;
    char why[SOURCE_WHY_MAX] = "", queue[SOURCE_QUEUE_MAX];
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    struct bytes position = zero ? bytes_of(zero + 1, size - (size_t)(zero - data) - 1) : (struct bytes){0};
    json_t *root = json_loadb((const char *)data, zero ? (size_t)(zero - data) : size, JSON_REJECT_DUPLICATES, NULL);
    bool good = root && declaration_read(&declaration, root, NULL, why);
    CHECK(good || !root || why[0]);
    json_decref(root);
    if (!good)
        return 0;
    CHECK(source_id_is_possible(declaration.id) && declaration.window && declaration.window <= SOURCE_WINDOW_MAX && declaration.header_count <= SOURCE_HEADERS_MAX && declaration.line_max);
    source_queue(declaration.id, queue);
    char *text = json_dumps(declaration.root, JSON_COMPACT);
    root = json_loads(text, JSON_ALLOW_NUL, NULL);
    CHECK(declaration_read(&again, root, NULL, why) && strcmp(again.id, declaration.id) == 0);
    json_decref(root);
    free(text);
    declaration_deinit(&again);
    run(&declaration, position);
    return 0;
}
