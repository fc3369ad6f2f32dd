# check-neon: the kernel checks for arm64 under qemu, on a machine of another kind. They need no library of that
# architecture but the compiler's own, so this also runs without a network.
find_program(GRAFT_ARM64_CC aarch64-linux-gnu-gcc)
find_program(GRAFT_ARM64_QEMU qemu-aarch64)
mark_as_advanced(GRAFT_ARM64_CC GRAFT_ARM64_QEMU)
if(GRAFT_ARM64_CC AND GRAFT_ARM64_QEMU)
  add_custom_target(check-neon)
  file(GLOB sources CONFIGURE_DEPENDS src/base/*.c src/kernels/*.c)
  list(FILTER sources EXCLUDE REGEX "/(name_match|isa_neonbf16)\\.c$") # needs PCRE2; has flags of its own
  file(GLOB headers CONFIGURE_DEPENDS src/kernels/*.h)
  set(compile ${GRAFT_ARM64_CC} -std=gnu17 -O3 -static -D_GNU_SOURCE -DGRAFT_PLAIN_MAIN -ffp-contract=off
              -I${PROJECT_SOURCE_DIR}/src -I${PROJECT_SOURCE_DIR}/include -I${PROJECT_SOURCE_DIR}/tests)
  set(bf16 ${PROJECT_BINARY_DIR}/isa_neonbf16_arm64.o)
  add_custom_command(OUTPUT ${bf16}
    COMMAND ${compile} -march=armv8.2-a+bf16 -c ${PROJECT_SOURCE_DIR}/src/kernels/isa_neonbf16.c -o ${bf16}
    DEPENDS src/kernels/isa_neonbf16.c ${headers} VERBATIM)
  foreach(name test_kernels test_matmul)
    set(program ${PROJECT_BINARY_DIR}/${name}_arm64)
    add_custom_command(OUTPUT ${program}
      COMMAND ${compile} ${PROJECT_SOURCE_DIR}/tests/${name}.c ${sources} ${bf16} -lm -lpthread -o ${program}
      DEPENDS tests/${name}.c tests/kernel_check.h ${sources} ${headers} ${bf16} VERBATIM)
    add_custom_target(run_${name}_arm64 COMMAND ${GRAFT_ARM64_QEMU} ${program} DEPENDS ${program} VERBATIM)
    add_dependencies(check-neon run_${name}_arm64)
  endforeach()
endif()
