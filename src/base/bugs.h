/* Mistakes that can be switched on, in builds with -Dplanted_bugs=true only, to prove that the simulator would find them.
 *
 * The code that a bug breaks asks bug_enabled(BUG_…); in every other build that is the constant false. Which one is on is the one thing in the program
 * that belongs to the process: a bug is planted for a whole simulation. */
#ifndef BASE_BUGS_H
#define BASE_BUGS_H

#include <stdbool.h>

/* What the bug does, and where it shows. */
#define PLANTED_BUGS(BUG) \
    BUG(CONFIRM_BEFORE_SYNC, "confirm-before-sync", "the log says committed when a write begins") \
    BUG(SYNC_LEFT_OUT, "sync-left-out", "log batches are written without a sync") \
    BUG(TRUNCATE_ONE_TOO_FAR, "truncate-one-too-far", "recovery cuts the last whole batch off with the torn tail") \
    BUG(RECYCLE_ONE_TOO_MANY, "recycle-one-too-many", "a log file that is still needed is recycled") \
    BUG(STALE_BATCH_ACCEPTED, "stale-batch-accepted", "recovery takes the batches of a recycled file's earlier life") \
    BUG(CONTENT_UNCHECKED, "content-unchecked", "the content's checksum is not looked at") \
    BUG(SNAPSHOT_WITHOUT_SYNC, "snapshot-without-sync", "a snapshot replaces the one before it unsynced") \
    BUG(SEGMENT_WITHOUT_SYNC, "segment-without-sync", "a snapshot names segments that are not synced") \
    BUG(PAGED_LAST_DROPPED, "paged-last-dropped", "a paged block comes back without its last message") \
    BUG(SETTLES_IGNORED, "settles-ignored", "replay passes over settles") \
    BUG(SETTLE_ONE_SHORT, "settle-one-short", "a settled run of messages is logged one short") \
    BUG(ACK_UNLOGGED, "ack-unlogged", "acks are not written to the log") \
    BUG(REDELIVERED_FORGOTTEN, "redelivered-forgotten", "a requeued message loses its redelivered flag") \
    BUG(REDELIVERED_LOST_IN_CRASH, "redelivered-lost-in-crash", "recovered messages are not flagged redelivered") \
    BUG(REQUEUE_TO_TAIL, "requeue-to-tail", "a requeued message goes behind the others") \
    BUG(PREFETCH_ONE_MORE, "prefetch-one-more", "a consumer gets one more than its prefetch") \
    BUG(CHANNEL_PREFETCH_IGNORED, "channel-prefetch-ignored", "the limit of the whole channel is not kept") \
    BUG(REQUEUE_ONE_MORE, "requeue-one-more", "with a requeued message the one after it comes back too, whoever holds it") \
    BUG(UNACKED_LOST_ON_CLOSE, "unacked-lost-on-close", "a closed channel acknowledges what it held") \
    BUG(CONFIRM_EARLY, "confirm-early", "a message to several shards is confirmed with the first answer") \
    BUG(TX_HALF_APPLIED, "tx-half-applied", "a transaction's settles become true before its publishes are logged") \
    BUG(FANOUT_SKIPS_LAST, "fanout-skips-last", "a message to many queues misses the last one") \
    BUG(PURGE_COUNT_WRONG, "purge-count-wrong", "the ready count is not lowered by a purge") \
    /* of queues with arguments, found by --features */ \
    BUG(PRIORITY_UPSIDE_DOWN, "priority-upside-down", "the lowest priority is served first") \
    BUG(EXPIRED_EARLY, "expired-early", "messages live half as long as they may") \
    BUG(EXPIRED_DELIVERED, "expired-delivered", "consumers get what has expired") \
    BUG(LENGTH_ONE_MORE, "length-one-more", "a queue keeps one message more than its length") \
    BUG(REFUSED_AND_KEPT, "refused-and-kept", "a full queue refuses a message and takes it in") \
    BUG(TWO_ACTIVE, "two-active", "a second consumer of a single active one's queue is served too") \
    BUG(LIMIT_ONE_MORE, "limit-one-more", "a message comes back once more than its delivery limit") \
    BUG(DEATH_UNCONFIRMED, "death-unconfirmed", "a dead letter leaves its queue before the other shard has it") \
    BUG(ORIGIN_FORGOTTEN, "origin-forgotten", "a restart forgets where dead letters came from") \
    BUG(DELAY_EARLY, "delay-early", "delayed messages come in half the time") \
    BUG(STREAM_ONE_LOST, "stream-one-lost", "a restart passes over the first message that a stream's segments do not have") \
    BUG(GROUP_SHARED, "group-shared", "a key goes to two consumers at a time") \
    BUG(GROUP_RETURN_LATE, "group-return-late", "a message that came back comes after later ones of its key") \
    BUG(GROUP_UNFAIR, "group-unfair", "the oldest message comes first where the keys should take turns") \
    BUG(DEDUP_HALF_WINDOW, "dedup-half-window", "ids are known for half of their window") \
    BUG(DEDUP_REFUSED, "dedup-refused", "the id of a message that a full queue refused is remembered") \
    BUG(DEDUP_FORGOTTEN, "dedup-forgotten", "a restart forgets the ids that the log alone knows") \
    BUG(FILTER_IGNORED, "filter-ignored", "a consumer with a filter gets what does not match") \
    BUG(FILTER_RETURN_MISSED, "filter-return-missed", "what comes back below a filter's cursor is not found again") \
    BUG(FILTER_PASSES_WAITING, "filter-passes-waiting", "a filter goes on over a message that waits for the log") \
    BUG(RETRY_EARLY, "retry-early", "what came back waits half as long as it should") \
    BUG(RETRY_OWN_WAIT_IGNORED, "retry-own-wait-ignored", "what a consumer says of how long a message is to wait is not listened to") \
    BUG(RETRY_UNLOGGED, "retry-unlogged", "a restart forgets how often messages came back, and when they are due") \
    BUG(RETRY_NOT_PARKED_AGAIN, "retry-not-parked-again", "after a restart what waits comes at once") \
    BUG(HALF_DECISION_LOST, "half-decision-lost", "what is decided of a transaction is confirmed and not kept") \
    BUG(HALF_LAST_LOST, "half-last-lost", "the last message of a committed transaction stays where it is") \
    BUG(HALF_SILENT_COMMITTED, "half-silent-committed", "a transaction that nobody decides is committed in the end") \
    BUG(SENT_UNSETTLED, "sent-unsettled", "a moved message is not noted to be gone from its old place") \
    BUG(SENT_UNCONFIRMED, "sent-unconfirmed", "a moved message leaves its queue before the other shard has it") \
    /* of subscriptions, found by --bus */ \
    BUG(HOOK_UNCOUNTED, "hook-uncounted", "an event that was refused comes again at once, and that costs it no attempt") \
    BUG(HOOK_HANG_DONE, "hook-hang-done", "an event whose sink says nothing in time is done") \
    BUG(HOOK_OVERTAKES, "hook-overtakes", "an event does not wait for the one before it with the same key") \
    BUG(HOOK_ONE_MORE, "hook-one-more", "one more request than the subscription's concurrency is under way") \
    BUG(HOOK_BREAKER_SHORT, "hook-breaker-short", "a breaker is open for half as long") \
    BUG(HOOK_PLACE_SHORT, "hook-place-short", "a place whose sinks do not answer is left alone for half as long") \
    BUG(HOOK_PLACE_ALL, "hook-place-all", "subscriptions at a place that does not answer try it all at once") \
    BUG(HOOK_PROBES_ALL, "hook-probes-all", "when a breaker lets one through, all go") \
    BUG(HOOK_SLOW_EARLY, "hook-slow-early", "of what Retry-After says half is waited for") \
    BUG(HOOK_TIME_OF_LOOK, "hook-time-of-look", "times run from the last look at the clock, not from the answer") \
    BUG(HOOK_GONE_ONE_MORE, "hook-gone-one-more", "after a 410 posting goes on until the end is written down") \
    BUG(HOOK_GONE_UNDOES, "hook-gone-undoes", "a 410 undoes the change of the subscription that was made meanwhile") \
    BUG(HOOK_PAUSE_IGNORED, "hook-pause-ignored", "what is held when a pause begins is posted in spite of it") \
    BUG(HOOK_UNBOUND, "hook-unbound", "a subscription that was being made when the broker died is never bound") \
    BUG(HOOK_STALE_FILTER, "hook-stale-filter", "what waits to be posted is not looked at when the filters change") \
    BUG(HOOK_LEAVE_KEPT, "hook-leave-kept", "a new sink is posted to with the leave of the old one") \
    BUG(HOOK_LOG_SILENT, "hook-log-silent", "attempts that got no answer are not in the log") \
    BUG(HOOK_REMOVED_FIRST, "hook-removed-first", "a subscription is removed before its queue") \
    BUG(HOOK_MATCH_IGNORED, "hook-match-ignored", "a change is made whatever If-Match says") \
    BUG(HOOK_REPLAY_SHORT, "hook-replay-short", "a replay leaves the last event of its range out") \
    BUG(HOOK_REPLAY_ALL, "hook-replay-all", "a replay takes no notice of the subscription's filters") \
    BUG(HOOK_REPLAY_AGAIN, "hook-replay-again", "a replay that goes on after a restart reads all of its range again") \
    BUG(HOOK_REPLAY_SKIPS, "hook-replay-skips", "a replay that goes on after a restart leaves out what it had not come to") \
    BUG(HOOK_RETURNED_DONE, "hook-returned-done", "an event that no queue of the other broker takes is done") \
    BUG(HOOK_BUSY_COUNTS, "hook-busy-counts", "a broker that takes nothing for now costs an event an attempt") \
    BUG(HOOK_KEY_OF_QUEUE, "hook-key-of-queue", "an event that is replayed is published at the other broker with the queue's name as its routing key") \
    BUG(EVENTS_HALF_MADE, "events-half-made", "events go to an exchange whose stream is not bound yet") \
    BUG(LEASE_SHORT, "lease-short", "a lease lasts half as long as was asked for") \
    BUG(LEASE_ACK_EARLY, "lease-ack-early", "an acknowledgement by token is answered before it is on disk") \
    BUG(LEASE_LOST, "lease-lost", "a message whose lease is over is held by nobody, and does not come again") \
    BUG(LISTEN_SKIPS, "listen-skips", "a listener that comes back is not told of the event behind its last one") \
    BUG(LISTEN_AGAIN, "listen-again", "a listener that comes back is told of its last event again") \
    /* of sources, found by --sources */ \
    BUG(SOURCE_POSITION_EARLY, "source-position-early", "the position is behind events that are published and not confirmed") \
    BUG(SOURCE_ID_ANEW, "source-id-anew", "an event of a stream that comes again has another id") \
    BUG(SOURCE_HALF_LINE, "source-half-line", "the position in a file is behind what was read, not behind the last line") \
    BUG(SOURCE_ROTATED_LEFT, "source-rotated-left", "what is left of a file that was renamed is not read after a restart") \
    BUG(SOURCE_MISSED_FORGOTTEN, "source-missed-forgotten", "a restart forgets when a clock's last time was") \
    BUG(SOURCE_HELD_LOST, "source-held-lost", "what comes while there is no room for it is lost") \
    BUG(SOURCE_OLD_SETTLES, "source-old-settles", "what is said of a message that an earlier connection brought is taken for one of the next connection's") \
    BUG(SOURCE_ID_SHARED, "source-id-shared", "messages without an id get one that others get, too") \
    BUG(SOURCE_NEVER_SETTLED, "source-never-settled", "one message in a hundred is never acknowledged") \
    /* of the library, found by --handlers */ \
    BUG(HANDLER_ACK_UNTOLD, "handler-ack-untold", "one acknowledgement in eight stays in the library") \
    BUG(HANDLER_ONE_MORE, "handler-one-more", "a handler has one event more in hand than its concurrency") \
    BUG(HANDLER_LATE_NEVER, "handler-late-never", "nobody looks whether an answer is late while other events are in hand") \
    BUG(HANDLER_LATE_UNCOUNTED, "handler-late-uncounted", "an event that nobody answered comes back as if it had not failed") \
    BUG(HANDLER_LATE_COUNTS, "handler-late-counts", "an answer that comes too late costs the handler a place in its hands") \
    BUG(HANDLER_OFF_KEEPS, "handler-off-keeps", "what waits for a handler that is taken off does not go back to its queue") \
    BUG(HANDLER_OFF_ACKS, "handler-off-acks", "what waits for a handler that is taken off is acknowledged") \
    BUG(HANDLER_CLOSE_ACKS, "handler-close-acks", "what is in hand when the grace is over is acknowledged") \
    BUG(HANDLER_RETRY_OWN, "handler-retry-own", "gw_event_retry_after waits as long as any retry does") \
    BUG(HANDLER_ATTEMPT_ONE, "handler-attempt-one", "each attempt is said to be the first") \
    BUG(HANDLER_UNFLAGGED, "handler-unflagged", "a redelivered event is not said to be one") \
    BUG(HANDLER_KEY_LEFT_OUT, "handler-key-left-out", "the queue of a handler that orders by key does not know it") \
    BUG(HANDLER_KEY_AHEAD, "handler-key-ahead", "of a handler that orders by key several events of one wait in the process") \
    BUG(HANDLER_LIMIT_SHORT, "handler-limit-short", "an event is given up one retry too early") \
    BUG(HANDLER_LETTER_LOST, "handler-letter-lost", "what is given up leads to no dead letter") \
    BUG(HANDLER_DELAY_LEFT_OUT, "handler-delay-left-out", "an event that waits for its time comes at once") \
    BUG(HANDLER_TOLD_EARLY, "handler-told-early", "publishers are told before the event is on disk") \
    BUG(HANDLER_TOLD_OUT_OF_TURN, "handler-told-out-of-turn", "publishers are told in the order of the broker's answers") \
    BUG(HANDLER_CLOSE_HURRIED, "handler-close-hurried", "closing does not wait for what was published") \
    BUG(HANDLER_DIRECT_SOON, "handler-direct-soon", "an event in memory that failed is tried again at once") \
    BUG(HANDLER_REPLY_ALONE, "handler-reply-alone", "a reply does not acknowledge its request") \
    BUG(HANDLER_REQUEST_FOREVER, "handler-request-forever", "a request that times out while another waits is never told so")

#define BUGS_OF_FEATURES BUG_PRIORITY_UPSIDE_DOWN   /* this one and those after it, up to … */
#define BUGS_OF_BUS BUG_HOOK_UNCOUNTED              /* … this one, and those after it, up to … */
#define BUGS_OF_SOURCES BUG_SOURCE_POSITION_EARLY   /* … this one, and those after it, up to … */
#define BUGS_OF_HANDLERS BUG_HANDLER_ACK_UNTOLD     /* … this one */

enum bug {
#define BUG(NAME, text, what) BUG_##NAME,
    PLANTED_BUGS(BUG)
#undef BUG
    BUG_COUNT
};

#ifdef GODWIT_PLANTED_BUGS
bool bug_enabled(enum bug bug);
#else
#define bug_enabled(bug) false
#endif

/* Plants the one bug; -1: none. False when the build has none. */
bool bug_plant(int bug);

/* Its name on command lines, and back (-1: no such bug). */
const char *bug_name(int bug);
const char *bug_text(int bug);
int bug_find(const char *name);

#endif
