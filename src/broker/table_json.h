/* AMQP field tables as JSON objects, and back, with the types that RabbitMQ gives to what it reads in definitions: a whole number becomes a signed 64-bit one,
 * one with a fraction a double, a string a long string; what a table's types are finer in than JSON is lost on the way there. */
#ifndef BROKER_TABLE_JSON_H
#define BROKER_TABLE_JSON_H

#include "broker/writer.h"

#include <jansson.h>

/* Writes a valid table (without its leading size) as an object. Timestamps and all whole numbers become numbers, decimals numbers with a fraction, bytes strings,
 * nothing null. */
void table_write_json(struct bytes table, struct writer *writer);

/* Makes the table that an object says, its leading size left out: *table is malloc'ed, free it (as the pointer that it is). An array that is empty is taken for an
 * object without fields, since there are programs that write those so. On false `why` says what cannot be: an object nested too deeply, a name longer than 255
 * bytes, something else than an object, or no memory. */
bool table_from_json(const json_t *object, struct bytes *table, char *why, size_t room);

#endif
