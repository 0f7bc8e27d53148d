// `parallel` of call.h, on the threads of XLA's pool.
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "call.h"

namespace mfjax::ffi {
namespace {

// The chunks of one `parallel`. Tasks that XLA runs late find nothing to claim, and `work`, which
// is gone by then, is not touched.
class Round {
 public:
  Round(const Work& work, int64_t chunks) : work_(work), chunks_(chunks) {}

  void claim() {
    for (int64_t i = next_++; i < chunks_; i = next_++) {
      run(i);
      if (++done_ == chunks_) end();
    }
  }

  // For chunks that another thread has begun; called after `claim`, when none is left to begin.
  void wait() {
    for (int spin = 0; spin < SPINS && done_ < chunks_; spin++) pause();
    std::unique_lock<std::mutex> lock(mutex_);
    ended_.wait(lock, [this] { return done_ == chunks_; });
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  static constexpr int SPINS = 5000;  // some 0.1 ms: longer than it takes to sleep and wake

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

  const Work& work_;
  const int64_t chunks_;
  std::atomic<int64_t> next_{0};
  std::atomic<int64_t> done_{0};
  std::mutex mutex_;
  std::condition_variable ended_;
  std::exception_ptr failure_;
};

void help(void* data) {
  const std::unique_ptr<std::shared_ptr<Round>> round(static_cast<std::shared_ptr<Round>*>(data));
  (*round)->claim();
}

}  // namespace

void parallel(const Call& call, int64_t threads, int64_t chunks, const Work& work) {
  if (threads <= 1 || chunks <= 1) {
    for (int64_t i = 0; i < chunks; i++) work.chunk(i);
    return;
  }
  const auto round = std::make_shared<Round>(work, chunks);
  for (int64_t helper = 1; helper < threads && helper < chunks; helper++) {
    // which `help` deletes; nothing is thrown from here on, while helpers use `work`
    auto* const shared = new (std::nothrow) std::shared_ptr<Round>(round);
    if (shared != nullptr && call.schedule(help, shared)) continue;
    delete shared;
    break;
  }
  round->claim();
  round->wait();
}

}  // namespace mfjax::ffi
