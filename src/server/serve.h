/* godwit serve: the broker as a program. */
#ifndef SERVER_SERVE_H
#define SERVER_SERVE_H

/* argv[0] is the command's name. Returns the exit code: 0 stopped when asked to, 1 cannot run or had to stop, 2 wrong option or configuration. */
int serve_main(int argc, char **argv);

#endif
