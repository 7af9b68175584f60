package main

import (
	"context"
	"time"

	quota "k8s.io/apiserver/pkg/quota/v1/generic"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/scale"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/klog/v2"
	resync "k8s.io/kubernetes/pkg/controller"
	"k8s.io/kubernetes/pkg/controller/certificates/rootcacertpublisher"
	"k8s.io/kubernetes/pkg/controller/clusterroleaggregation"
	"k8s.io/kubernetes/pkg/controller/cronjob"
	"k8s.io/kubernetes/pkg/controller/daemon"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"k8s.io/kubernetes/pkg/controller/disruption"
	"k8s.io/kubernetes/pkg/controller/endpointslice"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/job"
	"k8s.io/kubernetes/pkg/controller/replicaset"
	"k8s.io/kubernetes/pkg/controller/resourcequota"
	"k8s.io/kubernetes/pkg/controller/serviceaccount"
	"k8s.io/kubernetes/pkg/controller/statefulset"
	"k8s.io/kubernetes/pkg/controller/ttlafterfinished"
	"k8s.io/kubernetes/pkg/controller/volume/pvcprotection"
	"k8s.io/kubernetes/pkg/controller/volume/pvprotection"
	quotainstall "k8s.io/kubernetes/pkg/quota/v1/install"
	tokens "k8s.io/kubernetes/pkg/serviceaccount"
)

// workers is how many objects one controller works on at a time.
const workers = 5

// controllers lists what runs. The order does not matter.
func controllers() []namedController {
	return []namedController{
		{"namespace", buildNamespace},
		{"garbage collector", buildGarbageCollector},
		{"service account", buildServiceAccounts},
		{"service account token", buildTokens},
		{"root certificate", buildRootCA},
		{"deployment", buildDeployment},
		{"replica set", buildReplicaSet},
		{"stateful set", buildStatefulSet},
		{"daemon set", buildDaemonSet},
		{"job", buildJob},
		{"cron job", buildCronJob},
		{"finished job", buildTTLAfterFinished},
		{"endpoint slice", buildEndpointSlice},
		{"disruption", buildDisruption},
		{"resource quota", buildResourceQuota},
		{"cluster role aggregation", buildClusterRoleAggregation},
		{"volume claim protection", buildPVCProtection},
		{"volume protection", buildPVProtection},
	}
}

// looper is a controller as most are.
type looper interface {
	Run(ctx context.Context, workers int)
}

// loop adapts a constructor's results.
func loop(c looper, err error) (func(context.Context), error) {
	return func(ctx context.Context) { c.Run(ctx, workers) }, err
}

func buildGarbageCollector(ctx context.Context, s *controllerSet) (func(context.Context), error) {
	graph := garbagecollector.NewDependencyGraphBuilder(ctx, s.metadata, s.mapper,
		garbagecollector.DefaultIgnoredResources(), s.generic, s.started)
	gc, err := garbagecollector.NewComposedGarbageCollector(ctx, s.kube, s.metadata, s.mapper, graph)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			gc.Sync(ctx, s.kube.Discovery(), discoveryPeriod)
		}()
		gc.Run(ctx, 2*workers, 30*time.Second)
		<-done
	}, nil
}

func buildServiceAccounts(ctx context.Context, s *controllerSet) (func(context.Context), error) {
	return loop(serviceaccount.NewServiceAccountsController(klog.FromContext(ctx),
		s.informers.Core().V1().ServiceAccounts(), s.informers.Core().V1().Namespaces(), s.kube,
		serviceaccount.DefaultServiceAccountsControllerOptions()))
}

func buildTokens(ctx context.Context, s *controllerSet) (func(context.Context), error) {
	key, err := keyutil.PrivateKeyFromFile(s.ids.key("sa"))
	if err != nil {
		return nil, err
	}
	ca, err := s.rootCA()
	if err != nil {
		return nil, err
	}
	generator, err := tokens.JWTTokenGenerator(tokens.LegacyIssuer, key)
	if err != nil {
		return nil, err
	}
	return loop(serviceaccount.NewTokensController(klog.FromContext(ctx),
		s.informers.Core().V1().ServiceAccounts(), s.informers.Core().V1().Secrets(), s.kube,
		serviceaccount.TokensControllerOptions{TokenGenerator: generator, RootCA: ca}))
}

func buildRootCA(_ context.Context, s *controllerSet) (func(context.Context), error) {
	ca, err := s.rootCA()
	if err != nil {
		return nil, err
	}
	return loop(rootcacertpublisher.NewPublisher(s.informers.Core().V1().ConfigMaps(), s.informers.Core().V1().Namespaces(), s.kube, ca))
}

func buildDeployment(ctx context.Context, s *controllerSet) (func(context.Context), error) {
	apps := s.informers.Apps().V1()
	return loop(deployment.NewDeploymentController(ctx, apps.Deployments(), apps.ReplicaSets(), s.informers.Core().V1().Pods(), s.kube))
}

func buildReplicaSet(ctx context.Context, s *controllerSet) (func(context.Context), error) {
	return loop(replicaset.NewReplicaSetController(ctx, s.informers.Apps().V1().ReplicaSets(),
		s.informers.Core().V1().Pods(), s.kube, replicaset.BurstReplicas), nil)
}

func buildStatefulSet(ctx context.Context, s *controllerSet) (func(context.Context), error) {
	apps, core := s.informers.Apps().V1(), s.informers.Core().V1()
	return loop(statefulset.NewStatefulSetController(ctx, core.Pods(), apps.StatefulSets(),
		core.PersistentVolumeClaims(), apps.ControllerRevisions(), s.kube), nil)
}

func buildDaemonSet(ctx context.Context, s *controllerSet) (func(context.Context), error) {
	apps, core := s.informers.Apps().V1(), s.informers.Core().V1()
	return loop(daemon.NewDaemonSetsController(ctx, apps.DaemonSets(), apps.ControllerRevisions(),
		core.Pods(), core.Nodes(), s.kube, flowcontrol.NewBackOff(time.Second, 15*time.Minute)))
}

func buildJob(ctx context.Context, s *controllerSet) (func(context.Context), error) {
	// Workloads and pod groups belong to a feature that is off by default.
	return loop(job.NewController(ctx, s.kube, s.informers.Core().V1().Pods(), s.informers.Batch().V1().Jobs(), nil, nil))
}

func buildCronJob(ctx context.Context, s *controllerSet) (func(context.Context), error) {
	batch := s.informers.Batch().V1()
	return loop(cronjob.NewControllerV2(ctx, batch.Jobs(), batch.CronJobs(), s.kube))
}

func buildTTLAfterFinished(ctx context.Context, s *controllerSet) (func(context.Context), error) {
	return loop(ttlafterfinished.New(ctx, s.informers.Batch().V1().Jobs(), s.kube), nil)
}

func buildEndpointSlice(ctx context.Context, s *controllerSet) (func(context.Context), error) {
	core := s.informers.Core().V1()
	return loop(endpointslice.NewController(ctx, core.Pods(), core.Services(), core.Nodes(),
		s.informers.Discovery().V1().EndpointSlices(), 100, s.kube, 0), nil)
}

func buildDisruption(ctx context.Context, s *controllerSet) (func(context.Context), error) {
	scales, err := scale.NewForConfig(s.config, s.mapper, dynamic.LegacyAPIPathResolverFunc,
		scale.NewDiscoveryScaleKindResolver(s.kube.Discovery()))
	if err != nil {
		return nil, err
	}
	apps, core := s.informers.Apps().V1(), s.informers.Core().V1()
	return loop(disruption.NewDisruptionController(ctx, core.Pods(), s.informers.Policy().V1().PodDisruptionBudgets(),
		core.ReplicationControllers(), apps.ReplicaSets(), apps.Deployments(), apps.StatefulSets(),
		s.kube, s.mapper, scales, s.kube.Discovery()), nil)
}

func buildResourceQuota(ctx context.Context, s *controllerSet) (func(context.Context), error) {
	discover := s.kube.Discovery().ServerPreferredNamespacedResources
	config, err := quotainstall.NewQuotaConfigurationForControllers(
		quota.ListerFuncForResourceFunc(s.informers.ForResource), s.informers)
	if err != nil {
		return nil, err
	}
	rq, err := resourcequota.NewController(ctx, &resourcequota.ControllerOptions{
		QuotaClient:               s.kube.CoreV1(),
		ResourceQuotaInformer:     s.informers.Core().V1().ResourceQuotas(),
		ResyncPeriod:              resync.StaticResyncPeriodFunc(5 * time.Minute),
		InformerFactory:           s.generic,
		ReplenishmentResyncPeriod: resync.NoResyncPeriodFunc,
		DiscoveryFunc:             discover,
		IgnoredResourcesFunc:      config.IgnoredResources,
		InformersStarted:          s.started,
		Registry:                  quota.NewRegistry(config.Evaluators()),
		UpdateFilter:              quotainstall.DefaultUpdateFilter(),
	})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			rq.Sync(ctx, discover, discoveryPeriod)
		}()
		rq.Run(ctx, workers)
		<-done
	}, nil
}

func buildClusterRoleAggregation(_ context.Context, s *controllerSet) (func(context.Context), error) {
	return loop(clusterroleaggregation.NewClusterRoleAggregation(s.informers.Rbac().V1().ClusterRoles(), s.kube.RbacV1()), nil)
}

func buildPVCProtection(ctx context.Context, s *controllerSet) (func(context.Context), error) {
	core := s.informers.Core().V1()
	return loop(pvcprotection.NewPVCProtectionController(klog.FromContext(ctx), core.PersistentVolumeClaims(), core.Pods(), s.kube))
}

func buildPVProtection(ctx context.Context, s *controllerSet) (func(context.Context), error) {
	return loop(pvprotection.NewPVProtectionController(klog.FromContext(ctx), s.informers.Core().V1().PersistentVolumes(), s.kube))
}
