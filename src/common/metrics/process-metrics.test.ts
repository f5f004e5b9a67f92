import assert from "node:assert/strict";
import { test } from "node:test";

import { joinMetrics } from "./process-metrics.ts";

test("metrics of two processes are joined by name", () => {
  const one =
    '# HELP a First.\n# TYPE a counter\na{process="x"} 1\n\n# HELP b Second.\n# TYPE b gauge\nb 2\n';
  const other = '# HELP a First.\n# TYPE a counter\na{process="y"} 3\n';
  assert.equal(
    joinMetrics([one, other, ""]),
    '# HELP a First.\n# TYPE a counter\na{process="x"} 1\na{process="y"} 3\n\n# HELP b Second.\n# TYPE b gauge\nb 2\n',
  );
});
