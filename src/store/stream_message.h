/* An AMQP message as a record of a stream's batch, and back, byte for byte.
 *
 *   key: the routing key; null when it is empty          value: the body
 *   header "amqp-exchange": the exchange's name; left out when it is empty
 *   header "amqp-properties": property flags and property list as in store/message.h; left out when there are none
 *
 * So a Kafka client reads the body, and one that writes a record makes a message of the default exchange without properties. */
#ifndef STORE_STREAM_MESSAGE_H
#define STORE_STREAM_MESSAGE_H

#include "store/message.h"
#include "store/record_batch.h"

/* Bytes of a batch that the message takes at most. */
size_t stream_message_size(const struct message *message);

/* Appends the message. False: there may be no room for it. */
bool stream_message_add(struct record_batch_writer *writer, uint64_t offset, int64_t timestamp_ms, const struct message *message);

/* The message that a record is. It points into the record; properties that a record lacks are two zero bytes elsewhere. False: the record's bytes are not what a record
 * is made of. A key longer than a routing key may be is none. */
bool stream_message_of(const struct batch_record *record, struct message *message);

/* The same from a record's bytes alone. */
bool stream_message_read(struct bytes record, struct message *message);

#endif
