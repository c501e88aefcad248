"""The lab: what stands in for AWS in the tests, so that nothing of ours is mocked.

The server (`python -m lab` in tests/) is moto's behind a layer of our own, in a process of its own. The
fixture `cloud` starts it once; `aws_account` empties the account for one test and sets AWS_ENDPOINT_URL and
keys, so that boto3 and the AWS command line reach it, here and in processes that the test starts:

    def test_upload_survives_a_cut(aws_account, ...):
        aws_account.cut("PutObject", count=2, after_bytes=50_000)
        ...
        assert len(aws_account.calls("PutObject")) == 12

What `aws_account` (class Cloud in lab/cloud.py) can do:

    throttle expire refuse_keys deny fail cut slow lose replace
                                                       what goes wrong, for the next `count` requests
    clear()                                            nothing goes wrong any more
    limit_caller(policy)                               the caller may do what this policy allows, and no more
    plain_http()                                       requests count as made without TLS
    set_quota(name, value)  set_prices({...})          SageMaker's quotas, the price list
    make_foreign_bucket(name)                          a bucket of somebody else's
    run_jobs_as(script)                                training jobs run a script, with no image and no Docker
    serve_as(script)  set_hosting(hosting=...)         what endpoints run: a script, our server, or the image
    set_jobs(stop_seconds=..., ...)  interrupt(job)    how a job's machine behaves; a spot machine taken back
    calls(operation, service=...)  forget_calls()      what was asked: operation, region, headers, body ...
    reset()                                            an empty account

A fault strikes what its pattern matches: an operation (`PutObject`), a permission (`s3:ListBucket`),
`iam:*`, `*`.

Where moto 5.2.5 answers unlike AWS, the lab mends it:

- a new bucket is encrypted and closed to the public, and takes tags; a public policy is refused;
- conditions in bucket policies count (requests pass as TLS until `plain_http()`);
- ExpectedBucketOwner is checked, a bucket of another account or another region is refused as S3 refuses it;
- a body that does not agree with its checksum is refused;
- a role's permissions boundary bounds its jobs, and conditions on boundaries and on the tags of jobs count;
- GetCallerIdentity names the caller, and a denied permission is named in AWS's words;
- Service Quotas know SageMaker's, GetProducts answers in the shape of the price list;
- ECR knows the images that were pushed to the registry, by their real digests; its token is valid;
- the policy simulator answers for roles, the tagging API finds repositories and training jobs;
- scaling policies of endpoints make alarms, which go with them;
- connections are kept alive; what moto does not know is answered with 500.

SageMaker's training is the lab's own (lab/sagemaker.py): it checks a request as the service does, then runs
the image with /opt/ml laid out from S3, under the role's own permissions; the fixture `lab` is
`aws_account` where a Docker engine and the registry are there, and skips the test with the reason where
they are not. A new repository is empty: what an earlier one of its name left in the registry is removed.

Hosting is the lab's own too (lab/hosting.py): models, endpoint configurations and endpoints are checked as
the service checks them; an endpoint unpacks the model's archive and runs `python -m
classifold.container.serve` (or, after `set_hosting(hosting="docker")`, the image's `serve`), waits for
GET /ping, and InvokeEndpoint sends what it gets to POST /invocations. One container stands for all machines
of a variant; one that crashes is started again. What a configuration captures is stored as the role may.
lab/transform.py runs transform jobs the same way, lab/model_registry.py keeps model packages,
lab/scaling.py checks what Application Auto Scaling is asked for endpoints (nothing scales by itself, and an
endpoint that is deleted leaves its scalable target, as where the caller may not deregister it). The fixture
`hosted` has a role, buckets and short names for the requests.

The fixture `relay` adds a way to the registry that breaks:

    def test_a_push_that_is_dropped(relay, ...):
        relay.cut(after_bytes=300_000, count=1)     # without a count: every connection
        ... push to relay.host, in relay.region ...
        assert relay.cuts == 1
"""
