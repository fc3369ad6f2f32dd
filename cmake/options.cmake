# Warnings, sanitizers and hardening, as one interface target that every target of the project links.
include(CheckCCompilerFlag)
include(CheckPIESupported)
check_pie_supported(LANGUAGES C)
option(GRAFT_FUZZ "build the fuzz targets with libFuzzer (clang)" OFF)
set(GRAFT_SANITIZE "" CACHE STRING "sanitizers, e.g. address,undefined or thread")

add_library(graft_flags INTERFACE)
target_compile_definitions(graft_flags INTERFACE _GNU_SOURCE _FILE_OFFSET_BITS=64)
# -ffp-contract=off: the same bits from every compiler; fused multiply-add only where a kernel asks for it.
target_compile_options(graft_flags INTERFACE -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror
                                             -fno-math-errno -fno-trapping-math -ffp-contract=off)

if(GRAFT_SANITIZE)
  target_compile_options(graft_flags INTERFACE -fsanitize=${GRAFT_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(graft_flags INTERFACE -fsanitize=${GRAFT_SANITIZE})
  # At -O1 with instrumentation gcc loses value ranges and clang does not unroll: neither says anything of the code.
  target_compile_options(graft_flags INTERFACE $<$<C_COMPILER_ID:GNU>:-Wno-format-truncation>
                                               $<$<C_COMPILER_ID:Clang>:-Wno-pass-failed>)
  if(GRAFT_SANITIZE MATCHES "undefined")
    target_compile_options(graft_flags INTERFACE -fno-sanitize-recover=undefined)
  endif()
elseif(CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_options(graft_flags INTERFACE -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
  foreach(flag -fstack-clash-protection -fcf-protection)
    string(MAKE_C_IDENTIFIER "GRAFT_HAS${flag}" known)
    check_c_compiler_flag(${flag} ${known})
    if(${known})
      target_compile_options(graft_flags INTERFACE ${flag})
    endif()
  endforeach()
  if(NOT APPLE)
    target_link_options(graft_flags INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack)
  endif()
endif()
