#include "sim/bus_door.h"

#include "base/err.h"
#include "broker/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define HEAD_MAX 4096u

static void on_dirty(struct http_host *host, void *owner)
{
    (void)host;
    ((struct bus_door *)owner)->look = true;
}

void bus_doors_init(struct bus_doors *doors, struct sim_broker *broker, struct bus_door *list, unsigned count)
{
    *doors = (struct bus_doors){.broker = broker, .random = broker->random, .trace = broker->trace, .config = gateway_config_default, .doors = list, .count = count};
    for (unsigned i = 0; i < count; i++) {
        list[i].doors = doors;
        list[i].number = i;
        link_init(&list[i].link);
    }
}

void bus_doors_deinit(struct bus_doors *doors)
{
    for (unsigned i = 0; i < doors->count; i++)
        link_deinit(&doors->doors[i].link);
}

/* ---- the broker's side ----------------------------------------------------------------------------------------------------- */

void bus_doors_made(struct bus_doors *doors)
{
    doors->life++;
    for (unsigned i = 0; i < doors->broker->worker_count; i++) {
        struct bus_house *house = &doors->houses[i];
        struct worker *worker = doors->broker->workers[i].worker;
        house->host.dirty = on_dirty;
        house->hall = (struct gateway_hall){.config = &doors->config, .worker = worker, .host = &house->host, .workers = doors->broker->worker_count,
                                            .seed = doors->life * SIM_WORKERS_MAX + i};
        worker_set_letters(worker, &(struct worker_letters){.take = hall_letter, .owner = &house->hall});
    }
}

/* The connection is over; whoever waits for an answer learns that there will be none. */
static void disconnect(struct bus_door *door)
{
    bool was_waiting = door->is_waiting;
    if (door->gateway)
        gateway_free(door->gateway);
    door->gateway = NULL;
    door->is_waiting = door->look = false;
    stream_clear(&door->link.to_session);
    stream_clear(&door->link.to_client);
    if (was_waiting)
        door->answered(door->owner, door, 0, "", 0);
}

static bool feed(struct bus_door *door)
{
    struct bus_doors *doors = door->doors;
    struct bytes waiting = stream_bytes(&door->link.to_session);
    if (!waiting.size || !gateway_wants_input(door->gateway) || (!doors->broker->calm && random_chance(doors->random, 1, 4)))
        return false;
    size_t size = doors->broker->calm ? waiting.size : net_piece(doors->random, waiting.size, doors->broker->plan->slow_net);
    uint8_t *copy = malloc(size);   /* of exactly that size, so that an address sanitizer finds who reads past its end */
    CHECK(copy);
    memcpy(copy, waiting.data, size);
    size_t taken = gateway_feed(door->gateway, bytes_of(copy, size), doors->trace->now_us);
    free(copy);
    stream_read(&door->link.to_session, taken);
    trace_event(doors->trace, TRACE_FEED, 1000 + door->number, taken, 0, 0);
    door->look = true;
    return taken > 0;
}

bool bus_doors_before_turn(struct bus_doors *doors, unsigned worker)
{
    bool happened = false;
    for (unsigned i = 0; i < doors->count; i++)
        if (doors->doors[i].gateway && doors->doors[i].worker == worker)
            happened |= feed(&doors->doors[i]);
    hall_tick(&doors->houses[worker].hall, doors->trace->now_us);
    return happened;
}

static bool send_output(struct bus_door *door)
{
    struct bus_doors *doors = door->doors;
    struct iovec iov[8];
    bool sent = false;
    for (unsigned count; (count = gateway_output(door->gateway, iov, 8)) > 0;) {
        size_t size = 0;
        for (unsigned i = 0; i < count; i++)
            size += iov[i].iov_len;
        bool part = !doors->broker->calm && random_chance(doors->random, 1, 4);
        size_t left = part ? random_between(doors->random, 0, size) : size, taken = left;
        for (unsigned i = 0; i < count && left > 0; i++) {
            size_t piece = iov[i].iov_len < left ? iov[i].iov_len : left;
            stream_write(&door->link.to_client, iov[i].iov_base, piece);
            left -= piece;
        }
        gateway_sent(door->gateway, taken, doors->trace->now_us);
        sent |= taken > 0;
        if (part) {
            door->look = true;
            break;
        }
    }
    return sent;
}

bool bus_doors_after_turn(struct bus_doors *doors, unsigned worker)
{
    bool happened = false;
    for (unsigned i = 0; i < doors->count; i++) {
        struct bus_door *door = &doors->doors[i];
        if (!door->gateway || door->worker != worker)
            continue;
        if (gateway_deadline(door->gateway) <= doors->trace->now_us) {
            gateway_tick(door->gateway, doors->trace->now_us);
            door->look = true;
        }
        if (door->look) {
            door->look = false;
            happened |= send_output(door);
        }
        if (gateway_finished(door->gateway) && !stream_bytes(&door->link.to_client).size) {
            disconnect(door);
            happened = true;
        }
    }
    return happened;
}

bool bus_doors_at_rest(const struct bus_doors *doors)
{
    for (unsigned i = 0; i < doors->count; i++) {
        const struct bus_door *door = &doors->doors[i];
        if (door->gateway && (door->look || stream_bytes(&door->link.to_client).size || (stream_bytes(&door->link.to_session).size && gateway_wants_input(door->gateway))))
            return false;
    }
    for (unsigned i = 0; i < doors->broker->worker_count; i++)
        if (hall_deadline(&doors->houses[i].hall) <= doors->trace->now_us)
            return false;
    return true;
}

uint64_t bus_doors_deadline(const struct bus_doors *doors)
{
    uint64_t earliest = UINT64_MAX;
    for (unsigned i = 0; i < doors->count; i++) {
        uint64_t deadline = doors->doors[i].gateway ? gateway_deadline(doors->doors[i].gateway) : UINT64_MAX;
        earliest = deadline < earliest ? deadline : earliest;
    }
    for (unsigned i = 0; i < doors->broker->worker_count; i++) {
        uint64_t deadline = hall_deadline(&doors->houses[i].hall);
        earliest = deadline < earliest ? deadline : earliest;
    }
    return earliest;
}

void bus_doors_ending(struct bus_doors *doors)
{
    for (unsigned i = 0; i < doors->broker->worker_count; i++)
        hall_stop(&doors->houses[i].hall, doors->trace->now_us);
    for (unsigned i = 0; i < doors->count; i++)
        disconnect(&doors->doors[i]);
}

void bus_doors_ended(struct bus_doors *doors)
{
    for (unsigned i = 0; i < doors->broker->worker_count; i++)
        hall_free(&doors->houses[i].hall);
}

/* ---- the peer's side --------------------------------------------------------------------------------------------------------- */

static bool connect_door(struct bus_door *door)
{
    struct bus_doors *doors = door->doors;
    static const struct gateway_addresses addresses = {.peer = "127.0.0.1", .local = "127.0.0.1", .peer_port = 40000, .local_port = 15672, .from_loopback = true};
    if (door->gateway)
        return true;
    if (!doors->broker->broker)
        return false;
    door->worker = (unsigned)random_below(doors->random, doors->broker->worker_count);
    if (gateway_new(&doors->houses[door->worker].hall, door, &addresses, doors->trace->now_us, &door->gateway) != GW_OK) {
        door->gateway = NULL;
        return false;
    }
    trace_event(doors->trace, TRACE_CONNECT, 1000 + door->number, door->worker, 0, 0);
    return true;
}

bool bus_door_ask(struct bus_door *door, const char *head, const void *body, size_t size)
{
    char text[HEAD_MAX];
    CHECK(!door->is_waiting);
    if (!connect_door(door))
        return false;
    int length = snprintf(text, sizeof(text), "%sHost: localhost\r\nContent-Length: %zu\r\n\r\n", head, size);
    CHECK(length > 0 && (size_t)length < sizeof(text));
    stream_write(&door->link.to_session, text, (size_t)length);
    if (size)
        stream_write(&door->link.to_session, body, size);
    door->is_waiting = true;
    return true;
}

/* The value of a header's line that begins with the name; NULL: it is not there. */
static const char *header_of(const char *head, size_t size, const char *name)
{
    size_t length = strlen(name);
    for (const char *line = head, *end = head + size; line < end;) {
        const char *next = memmem(line, (size_t)(end - line), "\r\n", 2);
        if (!next)
            break;
        if ((size_t)(next - line) > length && strncasecmp(line, name, length) == 0 && line[length] == ':')
            return line + length + 1;
        line = next + 2;
    }
    return NULL;
}

bool bus_door_read(struct bus_door *door)
{
    struct bytes waiting = stream_bytes(&door->link.to_client);
    const uint8_t *end = waiting.size ? memmem(waiting.data, waiting.size, "\r\n\r\n", 4) : NULL;
    size_t head = end ? (size_t)(end - waiting.data) + 4 : 0;
    char *copy = malloc(waiting.size + 1), length[24] = "0";
    CHECK(copy);
    if (waiting.size)
        memcpy(copy, waiting.data, waiting.size);
    copy[waiting.size] = 0;
    door->head = copy;
    door->head_size = head;
    bus_door_header(door, "content-length", length, sizeof(length));
    size_t size = strtoul(length, NULL, 10);
    bool whole = end && door->is_waiting && waiting.size >= head + size;
    if (!whole && waiting.size && (!door->is_waiting || (door->gateway && gateway_finished(door->gateway) && !door->look)))
        stream_clear(&door->link.to_client);   /* it is not for what was asked, or will never be whole */
    if (whole) {
        unsigned status = (unsigned)strtoul(copy + strcspn(copy, " "), NULL, 10);
        copy[head + size] = 0;
        stream_read(&door->link.to_client, head + size);
        door->is_waiting = false;
        trace_event(door->doors->trace, TRACE_DOOR_ANSWERED, door->number, status, size, 0);
        door->answered(door->owner, door, status, copy + head, size);
    }
    door->head = NULL;
    door->head_size = 0;
    free(copy);
    return whole;
}

bool bus_door_is_pressing(const struct bus_door *door)
{
    return door->is_waiting && (!door->is_patient || door->look || stream_bytes(&door->link.to_session).size || stream_bytes(&door->link.to_client).size);
}

bool bus_door_header(const struct bus_door *door, const char *name, char *room, size_t size)
{
    const char *value = door->head_size ? header_of(door->head, door->head_size, name) : NULL;
    if (!value)
        return false;
    value += strspn(value, " ");
    size_t length = strcspn(value, "\r\n");
    snprintf(room, size, "%.*s", (int)length, value);
    return true;
}

void bus_door_drop(struct bus_door *door) { disconnect(door); }

void bus_door_close(struct bus_door *door)
{
    if (!door->is_waiting)
        disconnect(door);
}
