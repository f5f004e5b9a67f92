package sockerless;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Timer;
import java.util.TimerTask;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.engine.TestSource;
import org.junit.platform.engine.support.descriptor.MethodSource;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.TestPlan;

/** Tells how tests go, one event a line; ends those that wait for ever, which JUnit 4 does not. */
final class JsonEvents implements TestExecutionListener {
  private static final long LIMIT_MS = Duration.ofMinutes(3).toMillis();

  private final ObjectMapper json = new ObjectMapper();
  private final PrintStream out;
  private final Timer timer = new Timer(true);
  private TestPlan plan;
  private TimerTask limit;
  private boolean failed;

  JsonEvents(PrintStream out) {
    this.out = out;
  }

  boolean hasFailure() {
    return failed;
  }

  /** CLASS/METHOD; null: it is no test, but has some. */
  static String nameOf(Optional<TestSource> source) {
    return source
        .filter(MethodSource.class::isInstance)
        .map(MethodSource.class::cast)
        .map(method -> simpleName(method.getClassName()) + "/" + method.getMethodName())
        .orElse(null);
  }

  @Override
  public void testPlanExecutionStarted(TestPlan started) {
    plan = started;
  }

  @Override
  public void executionStarted(TestIdentifier test) {
    if (!test.isTest()) {
      return;
    }
    tell("run", test, null);
    Thread runner = Thread.currentThread();
    limit =
        new TimerTask() {
          @Override
          public void run() {
            runner.interrupt();
          }
        };
    timer.schedule(limit, LIMIT_MS);
  }

  @Override
  public void executionFinished(TestIdentifier test, TestExecutionResult result) {
    if (test.isTest()) {
      limit.cancel();
      Thread.interrupted(); // The limit may have come too late for this one, and is none of the next one's.
    }
    switch (result.getStatus()) {
      case SUCCESSFUL -> end(test, "pass");
      case ABORTED -> end(test, "skip");
      default -> {
        failed = true;
        String trace = result.getThrowable().map(JsonEvents::traceOf).orElse("no reason is known\n");
        eachTestOf(test, each -> tell("output", each, trace));
        eachTestOf(test, each -> tell("fail", each, null));
      }
    }
  }

  @Override
  public void executionSkipped(TestIdentifier test, String reason) {
    eachTestOf(test, each -> tell("output", each, reason + "\n"));
    eachTestOf(test, each -> tell("skip", each, null));
  }

  private void end(TestIdentifier test, String action) {
    if (test.isTest()) {
      tell(action, test, null);
    }
  }

  /** A class that cannot begin fails for all of its tests. */
  private void eachTestOf(TestIdentifier test, java.util.function.Consumer<TestIdentifier> told) {
    if (test.isTest()) {
      told.accept(test);
    } else {
      plan.getDescendants(test).stream().filter(TestIdentifier::isTest).forEach(told);
    }
  }

  private void tell(String action, TestIdentifier test, String output) {
    String name = nameOf(test.getSource());
    Map<String, String> event = new LinkedHashMap<>();
    event.put("Action", action);
    event.put("Test", name == null ? test.getDisplayName() : name);
    if (output != null) {
      event.put("Output", output);
    }
    try {
      byte[] line = (json.writeValueAsString(event) + "\n").getBytes(StandardCharsets.UTF_8);
      out.write(line, 0, line.length);
      out.flush();
    } catch (JsonProcessingException e) {
      throw new IllegalStateException(e);
    }
  }

  private static String traceOf(Throwable thrown) {
    StringWriter written = new StringWriter();
    thrown.printStackTrace(new PrintWriter(written, true));
    return written.toString();
  }

  private static String simpleName(String className) {
    return className.substring(className.lastIndexOf('.') + 1);
  }
}
