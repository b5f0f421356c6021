/* What was published and is not confirmed: sent in its order, kept, and sent again over the next connection. */
#include "client/line_state.h"

#include <stdlib.h>
#include <string.h>

#define OUTPUT_MAX (1u << 20)          /* bytes that may wait for the socket; what is behind them waits here */
#define FIRST_ROOM 64u

void outbox_init(struct line_outbox *outbox)
{
    *outbox = (struct line_outbox){.last = &outbox->first, .sent_first = 1, .sent_next = 1};
}

static struct line_entry **slot(struct line_outbox *outbox, uint64_t number)
{
    return &outbox->sent[number & (outbox->room - 1)];
}

static void put_first(struct line_outbox *outbox, struct line_entry *entry)
{
    entry->next = outbox->first;
    outbox->first = entry;
    if (!entry->next)
        outbox->last = &entry->next;
}

static struct line_entry *take_first(struct line_outbox *outbox)
{
    struct line_entry *entry = outbox->first;
    outbox->first = entry->next;
    if (!outbox->first)
        outbox->last = &outbox->first;
    return entry;
}

/* What became of it is told, what it stands for is settled, and it is gone. */
static void entry_end(struct line *line, struct line_entry *entry, enum line_verdict verdict)
{
    struct line_delivery *replaces = entry->replaces;
    uint64_t ticket = entry->ticket;
    line->outbox.waiting_bytes -= entry->size;
    free(entry);
    if (replaces) {
        line_settle(replaces, verdict == LINE_TAKEN ? LINE_ACK : LINE_BACK);
        line_release(replaces);
    }
    if (ticket)
        line->events.told(line->events.owner, ticket, verdict);
}

void outbox_deinit(struct line *line)
{
    struct line_outbox *outbox = &line->outbox;
    outbox_lost(line);   /* which leaves none that replaces a delivery */
    while (outbox->first)
        free(take_first(outbox));
    free(outbox->sent);
    outbox->sent = NULL;
}

/* Publishing. */

static struct bytes part(const struct line_entry *entry, size_t at, size_t size)
{
    return bytes_of(entry->bytes + at, size);
}

static enum gw_err entry_new(const struct line *line, const struct line_message *message, struct line_entry **result)
{
    size_t size;
    if (line->state == LINE_CLOSING || line->state == LINE_CLOSED)
        return GW_ERR_CLOSED;
    if (message->exchange.size > LINE_TEXT_MAX || message->routing_key.size > LINE_TEXT_MAX || message->properties.size > UINT32_MAX)
        return GW_ERR_INVALID;
    if (__builtin_add_overflow(sizeof(struct line_entry) + message->exchange.size + message->routing_key.size + message->properties.size, message->body.size, &size))
        return GW_ERR_NOMEM;
    struct line_entry *entry = malloc(size);
    if (!entry)
        return GW_ERR_NOMEM;
    *entry = (struct line_entry){.size = size, .mandatory = message->mandatory, .exchange_size = (uint16_t)message->exchange.size,
                                 .key_size = (uint16_t)message->routing_key.size, .properties_size = (uint32_t)message->properties.size, .body_size = message->body.size};
    const struct bytes parts[] = {message->exchange, message->routing_key, message->properties, message->body};
    uint8_t *at = entry->bytes;
    for (unsigned i = 0; i < 4; i++) {
        if (parts[i].size)
            memcpy(at, parts[i].data, parts[i].size);
        at += parts[i].size;
    }
    *result = entry;
    return GW_OK;
}

static void put_last(struct line *line, struct line_entry *entry)
{
    *line->outbox.last = entry;
    line->outbox.last = &entry->next;
    line->outbox.waiting_bytes += entry->size;
}

enum gw_err line_publish(struct line *line, const struct line_message *message, uint64_t ticket)
{
    struct line_entry *entry;
    /* One that is larger than the whole window may go alone. */
    if (line->outbox.waiting_bytes && line->outbox.waiting_bytes + message->body.size > line->window_bytes)
        return GW_ERR_FULL;
    enum gw_err err = entry_new(line, message, &entry);
    if (err)
        return err;
    entry->ticket = ticket;
    put_last(line, entry);
    return GW_OK;
}

uint64_t line_waiting(const struct line *line)
{
    return line->outbox.waiting_bytes;
}

enum gw_err line_replace(struct line *line, struct line_delivery *delivery, const struct line_message *message)
{
    struct line_entry *entry;
    enum gw_err err = entry_new(line, message, &entry);
    if (err) {
        line_settle(delivery, LINE_BACK);
        return err;
    }
    entry->replaces = delivery;
    delivery->references++;
    put_last(line, entry);
    return GW_OK;
}

/* What the broker says of it. */

static void on_confirmed(void *owner, uint64_t first, uint64_t last, bool accepted)
{
    struct line *line = owner;
    struct line_outbox *outbox = &line->outbox;
    if (!accepted) {
        line->refusal_code = 0;
        line_say(line, LINE_WARNING, "the broker refused a publish: a queue is full, or its disk failed");
    }
    for (uint64_t number = first; number <= last; number++) {
        struct line_entry *entry = *slot(outbox, number);
        *slot(outbox, number) = NULL;
        outbox->mandatory_sent -= entry->mandatory;
        if (outbox->careful)
            outbox->careful--;
        entry_end(line, entry, !accepted ? LINE_REFUSED : entry->unroutable ? LINE_NO_ROUTE : LINE_TAKEN);
    }
    while (outbox->sent_first < outbox->sent_next && !*slot(outbox, outbox->sent_first))
        outbox->sent_first++;
}

/* A return comes before its confirm, and says nothing of the number. */
static void on_returned(void *owner, const struct remote_message *message)
{
    struct line *line = owner;
    struct line_outbox *outbox = &line->outbox;
    for (uint64_t number = outbox->sent_first; outbox->mandatory_sent && number < outbox->sent_next; number++) {
        struct line_entry *entry = *slot(outbox, number);
        if (entry && entry->mandatory && !entry->unroutable && bytes_equal(part(entry, entry->exchange_size, entry->key_size), message->routing_key) &&
            bytes_equal(part(entry, (size_t)entry->exchange_size + entry->key_size, entry->properties_size), message->properties)) {
            entry->unroutable = true;
            return;
        }
    }
}

/* Sent ones are the first again, in their order. */
static void take_back(struct line_outbox *outbox)
{
    while (outbox->sent_next > outbox->sent_first) {
        struct line_entry *entry = *slot(outbox, --outbox->sent_next);
        if (!entry)
            continue;
        entry->unroutable = false;
        put_first(outbox, entry);
    }
    outbox->sent_first = outbox->sent_next = 1;
    outbox->mandatory_sent = 0;
    outbox->channel = NULL;
}

static uint64_t count_sent(struct line_outbox *outbox)
{
    uint64_t count = 0;
    for (uint64_t number = outbox->sent_first; number < outbox->sent_next; number++)
        count += *slot(outbox, number) != NULL;
    return count;
}

/* One of those that were sent is to blame, and which one is not said: from now on they go one at a time, and the one that does it again is refused. */
static void blame(struct line *line)
{
    struct line_outbox *outbox = &line->outbox;
    uint64_t count = count_sent(outbox);
    bool is_known = outbox->careful > 0 && count == 1;
    take_back(outbox);
    if (is_known) {
        outbox->careful--;
        entry_end(line, take_first(outbox), LINE_REFUSED);
    } else {
        outbox->careful = count;
    }
}

void outbox_blamed(struct line *line)
{
    if (count_sent(&line->outbox))
        blame(line);
}

static void on_closed(void *owner, unsigned code, struct bytes text)
{
    struct line *line = owner;
    line->refusal_code = code;
    line_say(line, LINE_WARNING, "the broker refused a publish: %u %.*s", code, (int)text.size, (const char *)text.data);
    blame(line);
    /* It may have been the exchange, which is gone. */
    if (!line->bare)
        line->declared = line->is_up = false;
}

void outbox_lost(struct line *line)
{
    struct line_outbox *outbox = &line->outbox;
    take_back(outbox);
    /* What a message was to replace comes again, and its handler with it. */
    struct line_entry *entries = outbox->first;
    outbox->first = NULL;
    outbox->last = &outbox->first;
    while (entries) {
        struct line_entry *entry = entries;
        entries = entry->next;
        entry->next = NULL;
        if (entry->replaces) {
            line_settle(entry->replaces, LINE_BACK);
            line_release(entry->replaces);
            outbox->waiting_bytes -= entry->size;
            free(entry);
        } else {
            *outbox->last = entry;
            outbox->last = &entry->next;
        }
    }
}

/* Sending. */

static bool open_channel(struct line *line)
{
    struct talk_channel_events events = {.owner = line, .confirmed = on_confirmed, .returned = on_returned, .closed = on_closed};
    struct talk_channel *channel = talk_channel_open(line->talk, &events);
    if (!channel)
        return false;
    if (talk_confirm_select(channel)) {
        talk_channel_close(channel);
        return false;
    }
    line->outbox.channel = channel;
    return true;
}

static bool make_room(struct line_outbox *outbox)
{
    if (outbox->sent_next - outbox->sent_first < outbox->room)
        return true;
    size_t room = outbox->room ? 2 * outbox->room : FIRST_ROOM;
    struct line_entry **sent = calloc(room, sizeof(struct line_entry *));
    if (!sent)
        return false;
    for (uint64_t number = outbox->sent_first; number < outbox->sent_next; number++)
        sent[number & (room - 1)] = *slot(outbox, number);
    free(outbox->sent);
    outbox->sent = sent;
    outbox->room = room;
    return true;
}

/* False: no more for now. */
static bool send_first(struct line *line)
{
    struct line_outbox *outbox = &line->outbox;
    struct line_entry *entry = outbox->first;
    size_t at = 0;
    uint64_t number;
    struct bytes exchange = part(entry, at, entry->exchange_size), key = part(entry, at += entry->exchange_size, entry->key_size);
    struct bytes properties = part(entry, at += entry->key_size, entry->properties_size), body = part(entry, at += entry->properties_size, entry->body_size);
    if (!make_room(outbox))
        return false;
    enum gw_err err = talk_publish(outbox->channel, exchange, key, entry->mandatory, properties, body, &number);
    if (err == GW_ERR_LIMIT || err == GW_ERR_INVALID) {
        line->refusal_code = 0;
        line_say(line, LINE_WARNING, "a publish is refused: its properties and headers are larger than a frame (%u bytes)", talk_frame_max(line->talk));
        entry_end(line, take_first(outbox), LINE_REFUSED);
        return true;
    }
    if (err)
        return false;
    CHECK(number == outbox->sent_next);
    take_first(outbox);
    *slot(outbox, outbox->sent_next++) = entry;
    outbox->mandatory_sent += entry->mandatory;
    return true;
}

/* With care, one goes when nothing is under way. */
static bool must_wait(const struct line_outbox *outbox)
{
    return outbox->careful && outbox->sent_first < outbox->sent_next;
}

bool outbox_may_send(const struct line *line)
{
    return line->outbox.first && !must_wait(&line->outbox) && !talk_is_blocked(line->talk) && !stations_are_pending(line);
}

void outbox_turn(struct line *line)
{
    struct line_outbox *outbox = &line->outbox;
    if (!outbox_may_send(line) || (!outbox->channel && !open_channel(line)))
        return;
    while (outbox->first && talk_output_size(line->talk) < OUTPUT_MAX && !must_wait(outbox)) {
        if (!send_first(line))
            return;
    }
}
