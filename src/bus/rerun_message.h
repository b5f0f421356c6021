/* An event of the stream as it is put into a subscription's queue once more. */
#ifndef BUS_RERUN_MESSAGE_H
#define BUS_RERUN_MESSAGE_H

#include "store/message.h"

#define RERUN_ID_SIZE 24u            /* bytes of an id that is made of an offset */

/* What the event says of itself; of a message that is no CloudEvent its message-id, otherwise its offset, in `room`. Borrowed from the message. */
struct bytes rerun_event_id(const struct message *message, uint64_t offset, char room[RERUN_ID_SIZE]);
struct bytes rerun_event_source(const struct message *message);

/* Its properties: persistent, without a delay that it has had already, and with the attributes that only its exchange and routing key told so far. free() the memory; NULL: out of it. */
uint8_t *rerun_properties(const struct message *message, uint64_t offset, struct bytes *encoded);

#endif
