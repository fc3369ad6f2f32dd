# The rooms where the time goes are compiled with -O3 in a release; the rest stays small.
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  set(hot ${GRAFT_SOURCES})
  list(FILTER hot INCLUDE REGEX "/src/(kernels|layers)/")
  if(hot)
    set_property(SOURCE ${hot} APPEND PROPERTY COMPILE_OPTIONS -O3)
  endif()
endif()
