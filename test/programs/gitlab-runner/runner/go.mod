module sockerless.test/gitlab-runner

go 1.24
