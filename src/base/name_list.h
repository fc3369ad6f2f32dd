/* base/name_list.h - the names of an X-macro as the text that help and errors print.
 *
 *     #define COLOURS(X) X(red, "red") X(dark_red, "dark-red")
 *     GR_NAME_LIST(COLOURS) is "red, dark-red"
 */
#ifndef GR_BASE_NAME_LIST_H
#define GR_BASE_NAME_LIST_H

#define GR_NAME_LIST_ITEM(word, name) ", " name
#define GR_NAME_LIST(map)             (&(map(GR_NAME_LIST_ITEM))[2])

#endif
