/* Outgoing messages (io/outgoing.h) to other brokers, over AMQP 0-9-1 on a loop: a connection for each URL and name, which is made when there is something to publish, and kept for a minute
 * after. A message is done when the broker has confirmed it; nothing is sent twice for one request, so that whoever asked decides what follows.
 *
 *   confirmed                          OUTGOING_ANSWERED, 200
 *   no queue takes it (mandatory)      OUTGOING_ANSWERED, 312
 *   the channel is closed for it       OUTGOING_ANSWERED, the reply code: 403, 404, 406, 311 …; those that were sent with it are sent again one by one, so that no other suffers for it
 *   basic.nack                         OUTGOING_REFUSED
 *   not let in                         OUTGOING_REFUSED
 *   nothing within the timeout         OUTGOING_TIMED_OUT, or OUTGOING_BUSY, when the broker has said that it takes no publishes (connection.blocked); what follows is OUTGOING_BUSY at once, until
 *                                      it says that it takes them again
 *
 * Every address is judged right before it is connected to. */
#ifndef HOST_AMQP_SENDER_H
#define HOST_AMQP_SENDER_H

#include "io/outgoing.h"

struct amqp_sender;
struct sockaddr;
struct uv_loop_s;

struct amqp_sender_config {
    struct uv_loop_s *loop;
    /* Why an address may not be connected to; NULL: it may. */
    const char *(*refusal)(void *owner, const struct sockaddr *address);
    /* Something is done: whoever was told may have said something to the broker, which wants a turn. */
    void (*told)(void *owner);
    void *owner;
    const char *authorities;         /* a file of certificates that peers' may come from, beside the system's; NULL: none. Borrowed */
};

/* NULL: out of memory. */
struct amqp_sender *amqp_sender_new(const struct amqp_sender_config *config);
struct outgoing_sender *amqp_sender_outgoing(struct amqp_sender *sender);
/* Nothing is under way any more. Its handles are closed when the loop has run again. */
void amqp_sender_free(struct amqp_sender *sender);

#endif
