// `parallel` of call.h, on the threads of XLA's pool.
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "call.h"

namespace mfjax::ffi {
namespace {

// The chunks of one `parallel`, turn by turn. Each worker has a home, a part of every turn's chunks, which it
// claims first and before those of others: what it has read in one turn is in its cache in the next.
// Tasks that XLA runs late find nothing to claim, and `work`, which is gone by then, is not touched.
class Round {
 public:
  Round(const Work& work, int64_t turns, int64_t chunks, int64_t workers)
      : work_(work), turns_(turns), chunks_(chunks), workers_(workers),
        claimed_(size_t(turns * workers)) {}

  int64_t enter() { return entered_++; }

  void work(int64_t worker) {
    for (int64_t turn = 0; turn < turns_; turn++) {
      for (int64_t other = 0; other < workers_; other++) claim(turn, (worker + other) % workers_);
      wait((turn + 1) * chunks_);
    }
  }

  // What a chunk threw, once all are done.
  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  static constexpr int SPINS = 5000;  // some 0.1 ms: longer than it takes to sleep and wake

  const Work& work_;
  const int64_t turns_, chunks_, workers_;
  std::vector<std::atomic<int64_t>> claimed_;  // of each home in each turn
  std::atomic<int64_t> entered_{0}, done_{0};
  std::mutex mutex_;
  std::condition_variable ended_;
  std::exception_ptr failure_;

  void claim(int64_t turn, int64_t home) {
    const int64_t first = home * chunks_ / workers_, last = (home + 1) * chunks_ / workers_;
    std::atomic<int64_t>& claimed = claimed_[size_t(turn * workers_ + home)];
    for (int64_t i = first + claimed++; i < last; i = first + claimed++) {
      run(turn * chunks_ + i);
      if (++done_ % chunks_ == 0) end();
    }
  }

  // For chunks that another thread has begun: called when none is left to begin.
  void wait(int64_t done) {
    for (int spin = 0; spin < SPINS && done_ < done; spin++) pause();
    std::unique_lock<std::mutex> lock(mutex_);
    ended_.wait(lock, [this, done] { return done_ >= done; });
  }

  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  void run(int64_t i) {
    try {
      work_.chunk(i);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
  }

  void end() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ended_.notify_all();
  }
};

void help(void* data) {
  const std::unique_ptr<std::shared_ptr<Round>> round(static_cast<std::shared_ptr<Round>*>(data));
  (*round)->work((*round)->enter());
}

}  // namespace

void parallel(const Call& call, int64_t threads, int64_t turns, int64_t chunks, const Work& work) {
  const int64_t workers = threads < chunks ? threads : chunks;
  if (workers <= 1) {
    for (int64_t i = 0; i < turns * chunks; i++) work.chunk(i);
    return;
  }
  const auto round = std::make_shared<Round>(work, turns, chunks, workers);
  const int64_t caller = round->enter();
  for (int64_t helper = 1; helper < workers; helper++) {
    // which `help` deletes; nothing is thrown from here on, while helpers use `work`
    auto* const shared = new (std::nothrow) std::shared_ptr<Round>(round);
    if (shared != nullptr && call.schedule(help, shared)) continue;
    delete shared;
    break;
  }
  round->work(caller);
  round->rethrow();
}

}  // namespace mfjax::ffi
