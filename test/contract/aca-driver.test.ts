import { acaPlatformOf } from "../../src/backends/aca/main.ts";
import { AcaAccount } from "../support/aca-daemon.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { cloudDriverUnderTest, backendConfigOf } from "./cloud-driver.ts";
import { driverContract } from "./driver-contract.ts";

driverContract("aca", async () => {
  const directory = scratchDirectory();
  const resources = new AsyncDisposableStack();
  const account = resources.use(await AcaAccount.open());
  await account.azure.trustHere();
  Object.assign(process.env, account.env);
  const config = backendConfigOf("aca", directory, account.settings);
  const under = await cloudDriverUnderTest(resources, {
    directory,
    section: { ...config.aca, architecture: "amd64" },
    isLogKept: true,
    platform: (surroundings) => acaPlatformOf(config, surroundings),
    image: account.image("busybox:latest"),
  });
  return { ...under, areApart: true };
});
