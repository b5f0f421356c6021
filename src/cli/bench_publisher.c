#include "cli/bench_publisher.h"

#include "client/verbs.h"

#include <poll.h>
#include <sys/prctl.h>

#define IN_CAPACITY (192u * 1024u)
#define IDLE_READ_EVERY 64u            /* batches, where nothing is expected but the end of the connection */
#define WAIT_MAX_NS 100000000u

bool bench_publisher_open(struct bench_publisher *publisher, struct bench_load *load, uint32_t index)
{
    const struct bench_plan *plan = load->plan;
    publisher->load = load;
    publisher->index = index;
    publisher->quota = UINT64_MAX;
    if (plan->messages)
        publisher->quota = plan->messages / plan->publishers + (index < plan->messages % plan->publishers);
    histogram_init(&publisher->ages);
    if (bench_link_open(&publisher->link, plan, "godwit bench publisher", IN_CAPACITY))
        return false;
    if (bench_block_init(&publisher->block, plan, index, publisher->link.frame_max) ||
        (plan->confirm_window && confirm_window_init(&publisher->window, plan->confirm_window))) {
        bench_link_break(&publisher->link, "out of memory");
        return false;
    }
    if (plan->confirm_window && remote_confirm_select(publisher->link.remote)) {
        bench_link_break(&publisher->link, "%s", remote_error(publisher->link.remote));
        return false;
    }
    return true;
}

void bench_publisher_close(struct bench_publisher *publisher)
{
    bench_link_close(&publisher->link);
    bench_block_deinit(&publisher->block);
    confirm_window_deinit(&publisher->window);
}

/* A confirm, or a frame that is none. */
static enum bench_progress on_frame(struct bench_publisher *publisher, const struct amqp_frame *frame, uint64_t now)
{
    uint32_t id = frame->type == AMQP_FRAME_METHOD && frame->payload.size == 13 ? amqp_method_id_read(frame->payload.data) : 0;
    if (id != AMQP_BASIC_ACK && id != AMQP_BASIC_NACK)
        return bench_link_other(&publisher->link, frame);
    bool multiple = amqp_ack_flags(frame->payload.data) & 1;
    struct histogram *ages = id == AMQP_BASIC_ACK ? &publisher->ages : NULL;
    uint64_t count = confirm_window_settle(&publisher->window, amqp_ack_tag(frame->payload.data), multiple, now, ages);
    if (id == AMQP_BASIC_ACK)
        publisher->confirmed += count;
    else
        publisher->refused += count;
    return BENCH_SOME;
}

static enum bench_progress take_input(struct bench_publisher *publisher)
{
    struct bench_link *link = &publisher->link;
    enum bench_progress progress = bench_link_read(link);
    if (progress != BENCH_SOME)
        return progress;
    uint64_t now = bench_now_ns();
    for (;;) {
        struct amqp_frame frame;
        enum wire_answer answer = amqp_frame_read(bench_link_held(link), link->frame_max, &frame);
        if (answer == WIRE_MORE)
            return BENCH_SOME;
        if (answer == WIRE_BAD)
            return bench_link_break(link, "the broker sent a malformed frame");
        link->begin += frame.size;
        if (on_frame(publisher, &frame, now) == BENCH_BROKEN)
            return BENCH_BROKEN;
    }
}

/* The time at which message `number` of this publisher is due by --rate. */
static uint64_t due_ns(const struct bench_publisher *publisher, uint64_t number)
{
    const struct bench_plan *plan = publisher->load->plan;
    double interval = 1e9 * plan->publishers / (double)plan->rate;
    double phase = interval * publisher->index / plan->publishers;
    return publisher->start_ns + (uint64_t)(phase + interval * (double)number);
}

/* How many messages may leave now. 0 with *wait_ns: none, but later; 0 with *wait_ns 0: none any more. */
static size_t allowed(struct bench_publisher *publisher, uint64_t now, uint64_t issued, uint64_t *wait_ns)
{
    const struct bench_plan *plan = publisher->load->plan;
    uint64_t count = publisher->block.count;
    *wait_ns = 0;
    if (count > publisher->quota - issued)
        count = publisher->quota - issued;
    if (count == 0 || (plan->messages == 0 && now - publisher->start_ns >= plan->duration_ms * 1000000))
        return 0;
    if (plan->confirm_window && confirm_window_room(&publisher->window) < count) {
        count = confirm_window_room(&publisher->window);
        if (count == 0) {
            publisher->was_held_up = true;
            *wait_ns = WAIT_MAX_NS;
            return 0;
        }
    }
    if (plan->rate == 0)
        return count;
    uint64_t next = due_ns(publisher, issued);
    if (next > now) {
        *wait_ns = next - now < WAIT_MAX_NS ? next - now : WAIT_MAX_NS;
        return 0;
    }
    uint64_t due = 1;
    while (due < count && due_ns(publisher, issued + due) <= now)
        due++;
    return due;
}

/* Sends the next `count` messages. */
static enum bench_progress send_batch(struct bench_publisher *publisher, size_t count, uint64_t now, uint64_t issued)
{
    const struct bench_plan *plan = publisher->load->plan;
    struct bench_link *link = &publisher->link;
    /* What was due while the broker held this publisher up has waited since then, and says so. */
    uint64_t stamp = plan->rate && publisher->was_held_up ? due_ns(publisher, issued) : now;
    publisher->was_held_up = false;
    bench_block_patch(&publisher->block, count, stamp);
    if (plan->confirm_window)
        confirm_window_add(&publisher->window, count, stamp);
    atomic_store_explicit(&publisher->issued, issued + count, memory_order_release);
    const uint8_t *data = publisher->block.data;
    size_t size = count * publisher->block.stride;
    while (size > 0) {
        enum bench_progress progress = bench_link_write(link, &data, &size);
        if (progress == BENCH_BROKEN)
            return progress;
        if (progress == BENCH_SOME)
            continue;
        publisher->was_held_up = true;
        bench_link_wait(link, POLLIN | POLLOUT, WAIT_MAX_NS);
        if (take_input(publisher) == BENCH_BROKEN)
            return BENCH_BROKEN;
        if (atomic_load_explicit(&publisher->load->stop, memory_order_relaxed))
            return bench_link_break(link, "stopped amid a message");
    }
    return BENCH_SOME;
}

static enum bench_progress publish(struct bench_publisher *publisher)
{
    const struct bench_plan *plan = publisher->load->plan;
    struct bench_link *link = &publisher->link;
    uint64_t issued = 0, batches = 0;
    while (!atomic_load_explicit(&publisher->load->stop, memory_order_relaxed)) {
        uint64_t now = bench_now_ns(), wait_ns;
        size_t count = allowed(publisher, now, issued, &wait_ns);
        if (count == 0 && wait_ns == 0)
            break;
        if (count == 0) {
            bench_link_wait(link, POLLIN, wait_ns);
            if (take_input(publisher) == BENCH_BROKEN)
                return BENCH_BROKEN;
            continue;
        }
        if (send_batch(publisher, count, now, issued) == BENCH_BROKEN)
            return BENCH_BROKEN;
        issued += count;
        bool expects_input = plan->confirm_window && confirm_window_pending(&publisher->window) > plan->confirm_window / 2;
        if ((expects_input || ++batches % IDLE_READ_EVERY == 0) && take_input(publisher) == BENCH_BROKEN)
            return BENCH_BROKEN;
    }
    while (plan->confirm_window && confirm_window_pending(&publisher->window) > 0 &&
           !atomic_load_explicit(&publisher->load->stop, memory_order_relaxed)) {
        enum bench_progress progress = take_input(publisher);
        if (progress == BENCH_BROKEN)
            return progress;
        if (progress == BENCH_NONE)
            bench_link_wait(link, POLLIN, WAIT_MAX_NS);
    }
    return BENCH_SOME;
}

void *bench_publisher_run(void *argument)
{
    struct bench_publisher *publisher = argument;
    struct bench_load *load = publisher->load;
    prctl(PR_SET_TIMERSLACK, 1);   /* A paced publisher wakes when its message is due, not 50 µs later. */
    bench_load_await_start(load);
    double cpu_s = bench_thread_cpu_s();
    publisher->start_ns = bench_now_ns();
    if (publish(publisher) == BENCH_BROKEN)
        atomic_fetch_add(&load->failures, 1);
    publisher->end_ns = bench_now_ns();
    publisher->cpu_s = bench_thread_cpu_s() - cpu_s;
    atomic_fetch_sub(&load->publishing, 1);
    return NULL;
}
