// What devices.cc, group.cc, heartbeat.cc and cuda_kernels.cc know of each other.
#pragma once

#include <filesystem>
#include <string>

namespace patina {

// A function of the library that is built only where the headers of CUDA are; null if it is not there.
void* cudaFunction(const char* name);
// A file of the folder of the library that a function belongs to.
std::filesystem::path beside(const void* function, const std::string& name);
// Why NCCL cannot be used; empty if it can.
std::string ncclFault();

// Aborts the groups that can be: those of NCCL. Gloo's calls end when the other side or the process does, or with their timeout.
void abortGroups();

}  // namespace patina
