# cmake --install: headers, both libraries, the program, its manual page, a pkg-config file and a CMake package.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/graft)

file(GLOB GRAFT_HEADERS CONFIGURE_DEPENDS include/*.h)
install(FILES ${GRAFT_HEADERS} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
set(installed graft)
if(TARGET graft_shared)
  list(APPEND installed graft_shared)
endif()
install(TARGETS ${installed} EXPORT graftTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET graft_cli)
  install(TARGETS graft_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(FILES docs/graft.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
endif()

install(EXPORT graftTargets NAMESPACE graft:: DESTINATION ${package_dir})
configure_package_config_file(cmake/graftConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/graftConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/graftConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/graftConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/graftConfigVersion.cmake
        DESTINATION ${package_dir})

install(DIRECTORY examples/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)

# Found from where the file itself lies, however deep (lib, lib/x86_64-linux-gnu), so that the tree can be moved.
cmake_path(SET prefix NORMALIZE ${CMAKE_INSTALL_PREFIX}/)
foreach(of PREFIX:${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig:${prefix} LIBDIR:${prefix}:${CMAKE_INSTALL_FULL_LIBDIR}
           INCLUDEDIR:${prefix}:${CMAKE_INSTALL_FULL_INCLUDEDIR})
  string(REPLACE ":" ";" of ${of})
  list(GET of 0 name)
  list(GET of 1 from)
  list(GET of 2 to)
  file(RELATIVE_PATH GRAFT_PC_${name} ${from} ${to})
endforeach()
configure_file(cmake/graft.pc.in ${CMAKE_CURRENT_BINARY_DIR}/graft.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/graft.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
