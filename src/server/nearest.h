/* How far a word is from another one, for saying which one was meant. */
#ifndef SERVER_NEAREST_H
#define SERVER_NEAREST_H

/* Levenshtein's distance: characters inserted, deleted or replaced; of at most 63 characters of each. */
unsigned nearest_distance(const char *a, const char *b);

#endif
