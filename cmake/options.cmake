# Warnings, sanitizers and hardening, as one interface target that every target of the project links.
add_library(graft_flags INTERFACE)
target_compile_definitions(graft_flags INTERFACE _GNU_SOURCE _FILE_OFFSET_BITS=64)
target_compile_options(graft_flags INTERFACE -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror
                                             -fno-math-errno -fno-trapping-math -ffp-contract=off)
set(GRAFT_SANITIZE "" CACHE STRING "sanitizers, e.g. address,undefined or thread")
if(GRAFT_SANITIZE)
  target_compile_options(graft_flags INTERFACE -fsanitize=${GRAFT_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(graft_flags INTERFACE -fsanitize=${GRAFT_SANITIZE})
endif()
