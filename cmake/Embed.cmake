# A file as an array of bytes in C: cmake -DIN=FILE -DOUT=FILE.c -DNAME=name -P Embed.cmake
# defines name[] and name_n.
file(READ ${IN} hex HEX)
string(LENGTH "${hex}" n_digits)
math(EXPR n "${n_digits} / 2")
string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" bytes "${bytes}")
file(WRITE ${OUT} "#include <stddef.h>
#include <stdint.h>
extern const uint8_t ${NAME}[];
extern const size_t ${NAME}_n;
const uint8_t ${NAME}[] = {
${bytes}};
const size_t ${NAME}_n = ${n};
")
