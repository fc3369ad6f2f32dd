# libgraft.so shows the graft_ names and nothing else. Its soname has the minor version, since structs may grow with it. Sanitizer builds have no use for it.
if(GRAFT_SANITIZE)
  return()
endif()
add_library(graft_shared SHARED $<TARGET_OBJECTS:graft_objects>)
set_target_properties(graft_shared PROPERTIES OUTPUT_NAME graft VERSION ${PROJECT_VERSION}
                                              SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
target_include_directories(graft_shared PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                               $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(graft_shared PRIVATE ${GRAFT_LIBRARIES} graft_flags)
if(APPLE)
  target_link_options(graft_shared PRIVATE "-Wl,-exported_symbol,_graft_*")
else()
  set(map ${CMAKE_CURRENT_SOURCE_DIR}/cmake/graft.map)
  target_link_options(graft_shared PRIVATE "-Wl,--version-script=${map}" "-Wl,-z,defs")
  set_target_properties(graft_shared PROPERTIES LINK_DEPENDS ${map})
endif()
