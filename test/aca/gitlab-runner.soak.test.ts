/** GitLab Runner's own program on Container Apps. */
import { testJobs } from "../conformance/gitlab/on-cloud.ts";
import { AcaDaemon } from "../support/aca-daemon.ts";

testJobs(
  async (resources) => {
    const { azure, daemon } = resources.use(await AcaDaemon.start());
    return { daemon, host: azure.hostAddress };
  },
  ["its log lacks -rwxr-xr-x"], // All files of an SMB share have the mode 0777.
);
