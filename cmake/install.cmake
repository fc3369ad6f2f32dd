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

configure_file(cmake/graft.pc.in ${CMAKE_CURRENT_BINARY_DIR}/graft.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/graft.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
