# Warnings, sanitizers and hardening, as one interface target that every target of the project links.
include(CheckCCompilerFlag)
include(CheckCSourceCompiles)
include(CheckPIESupported)
check_pie_supported(LANGUAGES C)
option(GRAFT_FUZZ "build the fuzz targets with libFuzzer (clang)" OFF)
option(GRAFT_STATIC "link the libraries' archives, as `make dist` does" OFF)
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
  # tests/test_elf.sh looks at what comes of this. Level 3 also checks sizes that are known only at run time; gcc 12
  # and clang 9 have it, with a C library that does.
  set(CMAKE_REQUIRED_FLAGS "-O2 -D_FORTIFY_SOURCE=3")
  check_c_source_compiles("#include <stdio.h>
    #if __USE_FORTIFY_LEVEL < 3
    #error
    #endif
    int main(void) { return 0; }" GRAFT_HAS_FORTIFY_3)
  unset(CMAKE_REQUIRED_FLAGS)
  target_compile_options(graft_flags INTERFACE -U_FORTIFY_SOURCE
                                               -D_FORTIFY_SOURCE=$<IF:$<BOOL:${GRAFT_HAS_FORTIFY_3}>,3,2>)
  # Jumps and returns that land only where the compiler meant them to, where the processor checks it.
  if(CMAKE_SYSTEM_PROCESSOR STREQUAL "aarch64")
    set(landing -mbranch-protection=standard)
  else()
    set(landing -fcf-protection)
  endif()
  foreach(flag -fstack-protector-strong -fstack-clash-protection ${landing})
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
