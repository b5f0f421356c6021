/* Standard input, output and error are there: descriptors 0 to 2. */
#ifndef RUNTIME_STANDARD_FILES_H
#define RUNTIME_STANDARD_FILES_H

/* Opens /dev/null in place of those that whoever started us has closed. The next file or socket would get such a number: what is written to standard error would go into it, and libuv ends the
 * program when it closes one of them. */
void standard_files_keep(void);

#endif
