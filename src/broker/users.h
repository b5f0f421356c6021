/* Users' passwords, as RabbitMQ keeps them: 4 bytes of salt, then a digest of salt and password. */
#ifndef BROKER_USERS_H
#define BROKER_USERS_H

#include "broker/topology.h"

#define SECRET_SIZE 36u

/* `secret`: of SHA-256, which new passwords get. False: the digest could not be computed. */
bool secret_make(const uint8_t salt[4], struct bytes password, uint8_t secret[SECRET_SIZE]);

/* In constant time. `user` NULL: computes as much, answers false. So it does for an empty password, with which nobody logs in. */
bool secret_matches(const struct user *user, struct bytes password);

#endif
