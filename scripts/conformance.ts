/** `npm run conformance`: the compiled test/conformance/conformance.ts. */
import { runCompiled } from "./compiled.ts";

await runCompiled("test/conformance/conformance.js");
