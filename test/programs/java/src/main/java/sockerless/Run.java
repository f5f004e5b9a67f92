package sockerless;

import static org.junit.platform.engine.discovery.ClassNameFilter.includeClassNamePatterns;
import static org.junit.platform.engine.discovery.DiscoverySelectors.selectPackage;

import java.io.File;
import java.util.Arrays;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.junit.platform.engine.FilterResult;
import org.junit.platform.engine.TestDescriptor;
import org.junit.platform.launcher.LauncherDiscoveryRequest;
import org.junit.platform.launcher.PostDiscoveryFilter;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;

/**
 * Runs a suite's tests, and tells each result as a line of JSON in the shape of `go tool test2json`.
 *
 * <p>Arguments: the package of the suite, a pattern for the ends of its classes' names, the names of tests and of classes
 * that are left out, separated by commas, and perhaps a pattern that finds the names of those that run. A test's name is
 * CLASS/METHOD.
 */
public final class Run {
  private Run() {}

  public static void main(String[] args) {
    // Tests of docker-java have their folders below it.
    new File("target").mkdir();
    String suite = args[0];
    String classes = args[1];
    Set<String> skipped = Arrays.stream(args[2].split(",")).collect(Collectors.toSet());
    Pattern chosen = Pattern.compile(args.length > 3 ? args[3] : "");
    LauncherDiscoveryRequest request =
        LauncherDiscoveryRequestBuilder.request()
            .selectors(selectPackage(suite))
            .filters(
                includeClassNamePatterns(Pattern.quote(suite) + "\\..*" + classes),
                (PostDiscoveryFilter) test -> verdict(test, skipped, chosen))
            .configurationParameter("junit.jupiter.execution.timeout.default", "3 m")
            .build();
    JsonEvents events = new JsonEvents(System.out);
    System.setOut(System.err); // Lines of libraries are none of the events.
    LauncherFactory.create().execute(request, events);
    // Clients' threads may go on.
    System.exit(events.hasFailure() ? 1 : 0);
  }

  private static FilterResult verdict(TestDescriptor test, Set<String> skipped, Pattern chosen) {
    String name = JsonEvents.nameOf(test.getSource());
    if (name == null) {
      return FilterResult.included("it has no method");
    }
    boolean isSkipped = skipped.contains(name) || skipped.contains(name.substring(0, name.indexOf('/')));
    return FilterResult.includedIf(!isSkipped && chosen.matcher(name).find());
  }
}
