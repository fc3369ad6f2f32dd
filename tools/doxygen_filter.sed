# What doxygen takes for documentation: every comment of a public header, before a declaration or behind a member. The
# first names the file; a rule between sections is none.
s|@|\\@|g
s|^/\* -\{20,\}.*\*/$||
s|\([;,{]\) */\* |\1 /**< |
s|^\( *\)/\* |\1/** |
1s|^/\*\* \([a-z_]*\.h\) - |/** @file \1\n * |
