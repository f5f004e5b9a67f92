/** A storage key that is none of the account's, which jobs would only wait with: found by a call, whoever may list the keys. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, describe, it } from "node:test";

import { AcaAccount } from "../support/aca-daemon.ts";
import { Daemon } from "../support/daemon.ts";
import { untilTrue } from "../support/until.ts";

const wrong = randomBytes(64).toString("base64");

describe("a storage key on Azure where nobody may list the account's keys", () => {
  const resources = new AsyncDisposableStack();
  after(() => resources.disposeAsync());

  /** Starts a backend that has every right but to list keys. @param key undefined: one of the account's */
  const start = async (key?: string): Promise<Daemon> => {
    const aca = { linger: "0s", ...(key === undefined ? {} : { storage_account_key: key }) };
    const account = resources.use(await AcaAccount.open({ aca, azure: { lightweight: true } }));
    const { entra } = account.azure;
    const backend = entra.createApplication();
    entra.assign(backend, [
      ...["Microsoft.App/*", "Microsoft.OperationalInsights/*", "Microsoft.ContainerRegistry/*"],
      ...["Microsoft.Storage/storageAccounts/read", "Microsoft.Storage/storageAccounts/fileServices/*"],
    ]);
    const env = account.azure.environmentFor(backend);
    return resources.use(await Daemon.start({ args: ["--backend", "aca", ...account.args], env }));
  };

  it("is told when the backend starts and by what needs it, if it is wrong", async () => {
    const daemon = await start(wrong);
    const told = /the storage account sockerless refuses aca\.storage_account_key \(AuthenticationFailed\)/;
    await untilTrue(() => told.test(daemon.output) && /StorageAccounts_ListKeys/.test(daemon.output));
    const { code, errorText } = await daemon.docker("volume", "create", "kept");
    assert.equal(code, 1);
    assert.match(errorText, told);
  });

  it("is used, if it is right", async () => {
    const daemon = await start();
    await daemon.ok("volume", "create", "kept");
    await daemon.ok("volume", "rm", "kept");
    assert.doesNotMatch(daemon.output, /refuses aca\.storage_account_key/);
  });
});
