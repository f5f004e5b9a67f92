/**
 * `npm run demo:aca`: the ACA backend on a simulated Azure, for anyone without a subscription. Arguments go to
 * `sockerless serve`; the simulator and what it runs end with it.
 */
import { join } from "node:path";

import { AcaAccount } from "../support/aca-daemon.ts";
import { demonstrate } from "../support/demo.ts";

await using account = await AcaAccount.open();
const { azure, directory } = account;
const { location, environment } = azure.subscription;
console.log(`simulated Azure: ${azure.endpoint}, region ${location}, environment ${environment}`);
console.log(`an image to begin with: ${account.image("busybox")}`);
process.exitCode = await demonstrate("Azure", account.env, [
  [
    ...["serve", "--backend", "aca", "--state-dir", join(directory, "state")],
    ...[...process.argv.slice(2), ...account.args],
  ],
]);
