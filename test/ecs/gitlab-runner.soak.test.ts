/** GitLab Runner's own program on ECS. */
import { testJobs } from "../conformance/gitlab/on-cloud.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";

testJobs(async (resources) => {
  const { aws, daemon } = resources.use(await EcsDaemon.start());
  return { daemon, host: aws.services.network.subnets()[0]?.routerAddress ?? "" };
});
