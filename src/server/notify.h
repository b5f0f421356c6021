/* Tells the service manager how the service is doing (the protocol of sd_notify(3)). */
#ifndef SERVER_NOTIFY_H
#define SERVER_NOTIFY_H

/* `state`, e.g. "READY=1"; nothing happens without NOTIFY_SOCKET in the environment. */
void notify_service_manager(const char *state);

#endif
