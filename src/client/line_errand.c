/* What is asked of the broker once, on a channel of its own: to delete a queue, to look at its first message. */
#include "client/line_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct errand {
    struct errand *next;
    struct line *line;
    struct talk_channel *channel;      /* NULL: it has not begun */
    char *queue;
    uint8_t *arguments;
    size_t arguments_size;
    line_forgotten_fn forgotten;       /* one of the two */
    line_recalled_fn recalled;
    void *context;
};

static void errand_free(struct errand *errand)
{
    free(errand->queue);
    free(errand->arguments);
    free(errand);
}

/* Over; the channel, if it is open, is of no use any more. */
static void errand_end(struct errand *errand, enum gw_err err, const char *sentence, struct bytes body)
{
    struct errand **at = &errand->line->errands;
    while (*at != errand)
        at = &(*at)->next;
    *at = errand->next;
    if (errand->channel)
        talk_channel_close(errand->channel);
    if (errand->forgotten)
        errand->forgotten(errand->context, err, sentence);
    else
        errand->recalled(errand->context, err, sentence, body);
    errand_free(errand);
}

void errands_free(struct line *line)
{
    while (line->errands) {
        struct errand *errand = line->errands;
        errand->channel = NULL;
        if (errand->forgotten) {
            errand_end(errand, GW_ERR_CLOSED, "the connection was closed before there was an answer", (struct bytes){0});
        } else {
            line->errands = errand->next;
            errand_free(errand);
        }
    }
}

void errands_lost(struct line *line)
{
    for (struct errand *errand = line->errands, *next; errand; errand = next) {
        next = errand->next;
        errand->channel = NULL;
        if (errand->forgotten)
            errand_end(errand, GW_ERR_CLOSED, "the connection was lost before there was an answer", (struct bytes){0});
    }
}

void line_abandon(struct line *line)
{
    while (line->errands)
        errand_end(line->errands, GW_ERR_CLOSED, "there was no answer of the broker", (struct bytes){0});
}

/* The broker's answers. */

static void on_refused(void *owner, unsigned code, struct bytes text)
{
    struct errand *errand = owner;
    char sentence[LINE_ERROR_MAX];
    snprintf(sentence, sizeof sentence, "the queue %s: %u %.*s", errand->queue, code, (int)text.size, (const char *)text.data);
    errand->channel = NULL;
    errand_end(errand, code == 403 ? GW_ERR_PERMISSION : code == 404 ? GW_ERR_NOT_FOUND : GW_ERR_BUSY, sentence, (struct bytes){0});
}

static void on_deleted(void *context, const struct amqp_method *answer)
{
    if (answer)
        errand_end(context, GW_OK, "", (struct bytes){0});
}

static void on_fetched(void *context, const struct remote_message *message, bool closed)
{
    struct errand *errand = context;
    if (closed)
        return;
    if (message)
        (void)talk_nack(errand->channel, message->delivery_tag, true);   /* When the channel is closed it goes back as well. */
    errand_end(errand, GW_OK, "", message ? message->body : (struct bytes){0});
}

/* Beginning. */

static enum gw_err ask(struct errand *errand)
{
    struct amqp_value delete[AMQP_QUEUE_DELETE_COUNT] = {
        [AMQP_QUEUE_DELETE_QUEUE] = amqp_text(errand->queue),
        [AMQP_QUEUE_DELETE_IF_UNUSED] = amqp_number(1),
    };
    struct amqp_value declare[AMQP_QUEUE_DECLARE_COUNT] = {
        [AMQP_QUEUE_DECLARE_QUEUE] = amqp_text(errand->queue),
        [AMQP_QUEUE_DECLARE_DURABLE] = amqp_number(1),
        [AMQP_QUEUE_DECLARE_ARGUMENTS] = amqp_bytes(bytes_of(errand->arguments, errand->arguments_size)),
    };
    if (errand->forgotten)
        return talk_call(errand->channel, AMQP_QUEUE_DELETE, delete, AMQP_QUEUE_DELETE_OK, on_deleted, errand);
    enum gw_err err = talk_call(errand->channel, AMQP_QUEUE_DECLARE, declare, AMQP_QUEUE_DECLARE_OK, NULL, NULL);
    return err ? err : talk_get(errand->channel, errand->queue, false, on_fetched, errand);
}

static void begin(struct errand *errand)
{
    struct talk_channel_events events = {.owner = errand, .closed = on_refused};
    errand->channel = talk_channel_open(errand->line->talk, &events);
    if (!errand->channel || ask(errand) != GW_OK)
        errand_end(errand, GW_ERR_NOMEM, "out of memory, or of channels", (struct bytes){0});
}

void errands_turn(struct line *line)
{
    for (struct errand *errand = line->errands, *next; errand; errand = next) {
        next = errand->next;
        if (!errand->channel)
            begin(errand);
    }
}

static struct errand *errand_new(struct line *line, const char *queue, struct bytes arguments, void *context)
{
    struct errand *errand = calloc(1, sizeof *errand);
    if (!errand)
        return NULL;
    *errand = (struct errand){.line = line, .queue = strdup(queue), .arguments = (uint8_t *)bytes_to_text(arguments), .arguments_size = arguments.size, .context = context};
    if (!errand->queue || !errand->arguments) {
        errand_free(errand);
        return NULL;
    }
    errand->next = line->errands;
    line->errands = errand;
    return errand;
}

enum gw_err line_forget(struct line *line, const char *queue, line_forgotten_fn done, void *context)
{
    if (strlen(queue) > LINE_TEXT_MAX)
        return GW_ERR_INVALID;
    if (!line->is_up || line->state != LINE_TALKING)
        return GW_ERR_CLOSED;
    struct errand *errand = errand_new(line, queue, (struct bytes){0}, context);
    if (!errand)
        return GW_ERR_NOMEM;
    errand->forgotten = done;
    return GW_OK;
}

enum gw_err line_recall(struct line *line, const char *queue, struct bytes arguments, line_recalled_fn recalled, void *context)
{
    if (strlen(queue) > LINE_TEXT_MAX)
        return GW_ERR_INVALID;
    if (line->state == LINE_CLOSING || line->state == LINE_CLOSED)
        return GW_ERR_CLOSED;
    struct errand *errand = errand_new(line, queue, arguments, context);
    if (!errand)
        return GW_ERR_NOMEM;
    errand->recalled = recalled;
    return GW_OK;
}
