#include "euds/isa.hpp"

#include "cpu.hpp"

namespace euds {

std::vector<Isa> usable_isas() {
    std::vector<Isa> usable;
    if (runs_avx512()) {
        usable.push_back(Isa::avx512);
    }
    if (runs_avx2()) {
        usable.push_back(Isa::avx2);
    }
    usable.push_back(Isa::plain);
    return usable;
}

}  // namespace euds
