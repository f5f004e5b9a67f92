/** `npm run bench`: the compiled test/bench/bench.ts, where dockerd may write iptables' rules. */
import { runCompiled } from "./compiled.ts";

await runCompiled("test/bench/bench.js", { isApart: true, hasOwnNetwork: true });
