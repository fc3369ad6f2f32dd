/* base/name_list.h - the names of an X-macro as the text that help and errors print.
 *
 *     #define COLOURS(X) X(red) X(green)
 *     GR_NAME_LIST(COLOURS) is "red, green"
 */
#ifndef GR_BASE_NAME_LIST_H
#define GR_BASE_NAME_LIST_H

#define GR_NAME_LIST_ITEM(name) ", " #name
#define GR_NAME_LIST(map)       (&(map(GR_NAME_LIST_ITEM))[2])

#endif
