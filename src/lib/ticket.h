/* Tickets: what became of the messages that were published, told in their order. Their numbers are one after the other, as AMQP's delivery tags are. */
#ifndef LIB_TICKET_H
#define LIB_TICKET_H

#include <godwit.h>
#include <stdbool.h>

struct ticket {
    gw_published_fn told;            /* NULL: nobody asked */
    void *context;
    int result;
    bool known;
};

struct tickets {
    struct ticket *ring;
    uint64_t room;                   /* a power of two, or 0 */
    uint64_t first, next;            /* numbers: those in between are out. next: 1 at the beginning */
};

void tickets_init(struct tickets *tickets);
void tickets_deinit(struct tickets *tickets);

/* A number; 0: out of memory. */
uint64_t ticket_open(struct tickets *tickets, gw_published_fn told, void *context);
/* It was not used after all; the last one. */
void ticket_cancel(struct tickets *tickets, uint64_t ticket);

/* An engine says what became of `count` of them. Those that were told before, or are unknown, are passed over. */
void tickets_told(struct tickets *tickets, uint64_t first, uint64_t count, int result);

/* GW_E_AGAIN: it is not known yet what became of it. It was not told yet, either. */
int ticket_result(const struct tickets *tickets, uint64_t ticket);

/* Is there one of which it is not known? */
bool tickets_are_unknown(const struct tickets *tickets);
static inline bool tickets_are_out(const struct tickets *tickets) { return tickets->first != tickets->next; }

/* Is there something to tell? */
static inline bool tickets_can_tell(const struct tickets *tickets)
{
    return tickets->first != tickets->next && tickets->ring[tickets->first & (tickets->room - 1)].known;
}

/* Tells the program of up to `budget`. False: there are more that could be told. */
bool tickets_turn(struct tickets *tickets, const struct gw_loop *loop, unsigned budget);

/* Whatever is not known yet will not be. */
void tickets_give_up(struct tickets *tickets, int result);

#endif
