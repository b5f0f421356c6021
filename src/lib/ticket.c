#include "lib/ticket.h"

#include "base/bugs.h"
#include "lib/loop.h"

#include <stdint.h>
#include <stdlib.h>

static struct ticket *at(const struct tickets *tickets, uint64_t number) { return &tickets->ring[number & (tickets->room - 1)]; }

void tickets_init(struct tickets *tickets) { *tickets = (struct tickets){.first = 1, .next = 1}; }

void tickets_deinit(struct tickets *tickets)
{
    free(tickets->ring);
    tickets_init(tickets);
}

static bool grow(struct tickets *tickets)
{
    uint64_t room = tickets->room ? 2 * tickets->room : 64;
    struct ticket *ring = malloc(room * sizeof(*ring));
    if (!ring)
        return false;
    for (uint64_t number = tickets->first; number != tickets->next; number++)
        ring[number & (room - 1)] = *at(tickets, number);
    free(tickets->ring);
    tickets->ring = ring;
    tickets->room = room;
    return true;
}

uint64_t ticket_open(struct tickets *tickets, gw_published_fn told, void *context)
{
    if (tickets->next - tickets->first == tickets->room && !grow(tickets))
        return 0;
    *at(tickets, tickets->next) = (struct ticket){.told = told, .context = context};
    return tickets->next++;
}

void ticket_cancel(struct tickets *tickets, uint64_t ticket)
{
    if (ticket + 1 == tickets->next)
        tickets->next--;
    else
        *at(tickets, ticket) = (struct ticket){.known = true};
}

void tickets_told(struct tickets *tickets, uint64_t first, uint64_t count, int result)
{
    uint64_t end = first + count < tickets->next ? first + count : tickets->next;
    for (uint64_t number = first > tickets->first ? first : tickets->first; number < end; number++) {
        struct ticket *ticket = at(tickets, number);
        if (ticket->known)
            continue;
        ticket->known = true;
        ticket->result = result;
        if (bug_enabled(BUG_HANDLER_TOLD_OUT_OF_TURN) && ticket->told) {
            ticket->told(ticket->context, result);
            ticket->told = NULL;
        }
    }
}

bool tickets_turn(struct tickets *tickets, const struct gw_loop *loop, unsigned budget)
{
    for (; tickets_can_tell(tickets); budget--) {
        if (!budget || loop_is_to_stop(loop))
            return false;
        struct ticket ticket = *at(tickets, tickets->first++);
        if (ticket.told)
            ticket.told(ticket.context, ticket.result);
    }
    return true;
}

void tickets_give_up(struct tickets *tickets, int result) { tickets_told(tickets, tickets->first, tickets->next - tickets->first, result); }

int ticket_result(const struct tickets *tickets, uint64_t ticket)
{
    return at(tickets, ticket)->known ? at(tickets, ticket)->result : GW_E_AGAIN;
}

bool tickets_are_unknown(const struct tickets *tickets)
{
    for (uint64_t number = tickets->first; number != tickets->next; number++)
        if (!at(tickets, number)->known)
            return true;
    return false;
}
