"""The reports' words in other languages. English stands in the code, with {names} for what is filled in, and is the key here.

A sentence that has no translation stays English: a report must not fail for want of a word.
"""

from models.explanation import Language

__all__ = ["CHINESE", "Say"]


class Say:
    """Says an English sentence in the report's language."""

    def __init__(self, language: Language) -> None:
        self._words = CHINESE if language == "zh" else {}

    def __call__(self, text: str, **values: object) -> str:
        said = self._words.get(text, text)
        return said.format(**values) if values else said


CHINESE = {
    # of both
    "In short": "概要",
    "score": "得分",
    "alarm at {score:.3g}": "报警阈值{score:.3g}",
    "time [{unit}]": "时间 [{unit}]",
    "days": "天",
    "h": "小时",
    "min": "分钟",
    "s": "秒",
    "mean share of the score [%]": "在得分中的平均占比 [%]",
    # of a training
    "Training of {pack} {version}": "{pack} {version} 训练报告",
    "Fault {code}; {kind}. Fitted on {drives} drives ({ticks} ticks of a second), ": (
        "故障码{code}；{kind}。用{drives}段行程（{ticks}个1秒采样点）拟合，"
    ),
    "Fault {code}; {kind}. One recording: fitted on {ticks} ticks of a second, ": (
        "故障码{code}；{kind}。仅一段记录：用其中{ticks}个1秒采样点拟合，"
    ),
    "calibrated on another stretch of it, of {ticks}.": "并用其中另外{ticks}个采样点校准。",
    "calibrated on the same recording ({ticks} ticks).": "并用同一段记录校准（{ticks}个采样点）。",
    "calibrated on {drives} drives that nothing was fitted on ({ticks} ticks).": (
        "并用另外{drives}段未参与拟合的行程校准（{ticks}个采样点）。"
    ),
    "limits of each signal by itself": "各信号自身的限值",
    "levels that follow slow drift": "跟随缓慢漂移的水平",
    "PCA of the signals": "信号的主成分分析（PCA）",
    "expected value at the operating point, then PCA of what remains": "当前工况下的期望值，再对残差做主成分分析（PCA）",
    "autoencoder of what remains of the signals": "信号残差的自编码器",
    "each of many signals by all others and its own past": "用其他全部信号及自身历史预测每个信号",
    "score that alarms, in {need} of {of} ticks": "报警得分（{of}个采样点中有{need}个达到）",
    "highest persistent score of a healthy calibration drive": "正常校准行程的最高持续得分",
    "false findings expected in a vehicle-month of {hours} h of driving, {upper:.2g} at most (95 %)": (
        "每车每月（行驶{hours}小时）预期误报数，至多{upper:.2g}（95 %）"
    ),
    "false findings in a vehicle-month: so few drives say nothing of others": "每车每月误报数：行程太少，无法推断其他行程",
    "Asked for: {budget:g} false findings a drive. No promise: so few drives say nothing of others; hundreds do.": (
        "要求：每段行程{budget:g}次误报。无法保证：行程太少，不能推断其他行程；数百段才可以。"
    ),
    " Shown are the first {shown} of {all} signals.": "图中为{all}个信号中的前{shown}个。",
    "of the scored calibration ticks lie in the trained range": "的已评分校准采样点位于训练范围内",
    "of the operating range seen, two signals at a time": "的工况范围已覆盖（信号两两组合）",
    "calibration drives": "校准行程",
    "generalised Pareto tail fitted to them": "拟合的广义帕累托尾部",
    "Gumbel law fitted to them": "拟合的Gumbel分布",
    "Asked for: {budget:g} false findings a drive. What {drives} calibration drives, worth {worth:.0f} independent ones, can vouch for: "
    "{expected:.2g} expected in a vehicle-month, {upper:.2g} at most (95 %).": (
        "要求：每段行程{budget:g}次误报。{drives}段校准行程（相当于{worth:.0f}段独立行程）所能证明的是：每车每月预期{expected:.2g}次，"
        "至多{upper:.2g}次（95 %）。"
    ),
    "Threshold": "阈值",
    " A drive's score here is the highest that lasted for {need} of {of} ticks.": (
        "此处一段行程的得分是指在{of}个采样点中持续{need}个的最高得分。"
    ),
    "Share of healthy drives that reach a score": "达到某一得分的正常行程占比",
    "highest persistent score of a drive": "行程的最高持续得分",
    "share of drives above": "超过该得分的行程占比",
    "healthy ticks": "正常采样点",
    "The calibration drive with the highest score: {source}": "得分最高的校准行程：{source}",
    "The calibration drive with the usual score: {source}": "得分居中的校准行程：{source}",
    "Scores of healthy ticks": "正常采样点的得分",
    "A tick's p-value is the share of healthy ticks that score as high: the height of the first curve at its score.": (
        "采样点的p值是得分不低于它的正常采样点所占的比例，即第一条曲线在该得分处的高度。"
    ),
    "Share of healthy ticks over a score (p-value)": "超过某一得分的正常采样点占比（p值）",
    "share of ticks": "采样点占比",
    "monitored": "监测",
    "context": "工况",
    "Signals": "信号",
    "Remaining: standard deviation of what is left of a signal when its expected value is taken off, on drives that it was not "
    "fitted on. A fault shows when it moves a signal by several of these.": (
        "残差：信号减去期望值后剩余部分的标准差，取自未参与拟合的行程。故障使信号偏移数倍于此时即可显现。"
    ),
    "Who makes the highest {top:.0%} of healthy scores": "最高{top:.0%}正常得分的来源",
    "signal": "信号",
    "role": "角色",
    "trained range": "训练范围",
    "unit": "单位",
    "declared range": "声明范围",
    "explained": "可解释比例",
    "remaining": "残差",
    "10 % of it": "其10 %",
    "its whole width": "其全宽",
    "seconds": "秒",
    "Outside the trained range and {margin} on either side the answer is “not known here” and no alarm. A cell counts as seen from "
    "{least} seconds on. Two signals never fill their whole square; pale rows show what the next drives should visit.": (
        "超出训练范围及两侧各{margin}时，结论为“此处未知”，不报警。一个格子有{least}秒以上的数据才算已覆盖。"
        "两个信号的组合不可能填满整个方格；颜色浅的行表示后续行程应覆盖的工况。"
    ),
    "Limits know no operating point: every tick is judged. A cell counts as seen from {least} seconds on.": (
        "限值不区分工况：每个采样点都会判断。一个格子有{least}秒以上的数据才算已覆盖。"
    ),
    "Levels are followed wherever they go: every tick is judged. A cell counts as seen from {least} seconds on.": (
        "水平会被持续跟随：每个采样点都会判断。一个格子有{least}秒以上的数据才算已覆盖。"
    ),
    "Seconds of training in each twentieth of a signal's trained range": "各信号训练范围每二十分之一内的训练秒数",
    "place in the trained range [%]": "在训练范围中的位置 [%]",
    "Share of the {cells} × {cells} cells of two signals that training has seen": "两个信号的{cells} × {cells}个格子中训练已覆盖的比例",
    "Operating range": "工况范围",
    "Not used": "未使用的信号",
    "Every signal that was offered is used.": "提供的信号全部使用。",
    " and {count} more": "等，另有{count}个",
    "{count} signals were offered and left out; the manifest has the reason of each.": (
        "提供的信号中有{count}个未使用；各自原因见清单文件。"
    ),
    "reason": "原因",
    "signals": "信号数",
    "which": "哪些",
    "constant": "恒定不变",
    "switch": "开关量",
    "enumeration": "枚举量",
    "never valid": "从未有效",
    "valid too rarely": "有效时间过少",
    "copy of another": "与另一信号相同",
    "identity: says whose car it is": "身份信息：表明车辆归属",
    "counter or checksum by its name": "按名称判断为计数器或校验和",
    "clock or distance by its name": "按名称判断为时钟或里程",
    "code by its size: no quantity has so many steps": "按数值大小判断为编码：物理量没有这么多级",
    "counter by its behaviour": "按变化规律判断为计数器",
    "checksum by its behaviour": "按变化规律判断为校验和",
    "enumeration by its behaviour": "按变化规律判断为枚举量",
    "only rises or only falls: says how long or how far, not how it is": "只增或只减：只反映时间或里程，不反映状态",
    "constant in each drive and different in all: says which drive it is": "每段行程内恒定且各不相同：只反映是哪段行程",
    # of an evaluation
    "Evaluation of {pack} {version}": "{pack} {version} 评估报告",
    "Fault {code}. {drives} recordings, {ticks} ticks, {months:.3g} healthy vehicle-months. Intervals are 95 %, two-sided. No figure is "
    "point-adjusted.": (
        "故障码{code}。{drives}段记录，{ticks}个采样点，{months:.3g}个正常车月。区间为95 %双侧置信区间。所有指标均未做点调整。"
    ),
    "{found} of {all}": "{found}/{all}",
    "faults found": "发现的故障",
    "false findings": "误报",
    "false findings; with 95 % under {upper:.2g} a vehicle-month": "次误报；以95 %置信度低于每车月{upper:.2g}次",
    "from onset to finding, median of those found": "从故障发生到发现（已发现故障的中位数）",
    "of failing parts found before they failed": "的失效部件在失效前被发现",
    "of the ticks judged, the rest is not known": "的采样点已判断，其余为未知",
    "event recall": "事件召回率",
    "event precision": "事件精确率",
    "recordings with a false finding": "有误报的记录",
    "found before failure": "失效前发现",
    "found {hours:g} h before": "提前{hours:g}小时发现",
    "point F1": "逐点F1",
    "point precision": "逐点精确率",
    "ticks falsely alarmed": "误报采样点",
    "ticks missed": "漏报采样点",
    "VUS-PR": "VUS-PR",
    "event AUROC": "事件AUROC",
    "false findings a vehicle-month": "每车月误报数",
    "NAB, {profile}": "NAB（{profile}）",
    "standard": "标准",
    "reward low fp": "偏重少误报",
    "reward low fn": "偏重少漏报",
    "delay, median [s]": "延迟，中位数 [秒]",
    "delay, 90 % [s]": "延迟，90 % [秒]",
    "no trials": "无样本",
    "no exposure": "无时间",
    "nothing to take it from": "无数据",
    "bootstrap over drives": "按行程自助法",
    "order statistics": "顺序统计量",
    "too few drives for an interval": "行程太少，无法给出区间",
    "wider of Clopper-Pearson and bootstrap over drives": "Clopper-Pearson与按行程自助法中较宽者",
    "wider of Garwood and bootstrap over drives": "Garwood与按行程自助法中较宽者",
    "Clopper-Pearson of drives: all are alike": "按行程的Clopper-Pearson（各行程相同）",
    "A finding is right if the alarm rises inside a fault; one that rose before it is false. A tick without judgement has no alarm.": (
        "报警在故障期间触发才算正确；在故障之前触发为误报。未判断的采样点视为无报警。"
    ),
    " An alarm that never ends would reach a point F1 of {f1:.3f} here; {labelled:.1%} of the ticks are labelled, which is what a "
    "score that knows nothing reaches in VUS-PR.": (
        "一直报警在此可达到逐点F1 {f1:.3f}；{labelled:.1%}的采样点有故障标签，这也是毫无信息的得分所能达到的VUS-PR。"
    ),
    "Figures": "指标",
    "Shares with their 95 % intervals": "各比例及其95 %区间",
    "share [%]": "比例 [%]",
    "figure": "指标",
    "value": "值",
    "low": "下限",
    "high": "上限",
    "of": "样本数",
    "interval": "区间方法",
    "Recordings": "记录",
    "Those with false findings and missed faults come first. Shaded: the fault. Where the line is broken there is no judgement.": (
        "有误报和漏报的记录排在前面。阴影为故障时段。曲线中断处未作判断。"
    ),
    "finding in the fault": "故障期间的发现",
    "false finding": "误报",
    "findings in a fault": "故障期间的发现",
    "What the findings name": "发现所指的信号",
    "There was no finding.": "没有发现。",
    "A signal's share of the score at the tick at which the alarm rose.": "报警触发时各信号在得分中的占比。",
    "Mean contributions": "平均贡献",
    "Trained range": "训练范围",
    "No signal left the range that the training covered.": "没有信号超出训练所覆盖的范围。",
    "Ticks whose operating point the training has not seen are not judged, and neither are those that look back on one.": (
        "训练未覆盖的工况下的采样点不作判断，回溯窗口内含有这类采样点的也不判断。"
    ),
    "Ticks outside the trained range and its margin": "超出训练范围及其裕量的采样点",
    "share of all ticks [%]": "占全部采样点的比例 [%]",
    "The first 500 of {count}.": "共{count}段，显示前500段。",
    "Every recording": "全部记录",
    "recording": "记录",
    "ticks": "采样点",
    "judged": "已判断",
    "faults": "故障",
    "found": "已发现",
    "of another fault": "其他故障的",
    "delay [s]": "延迟 [秒]",
}
"""English -> Chinese."""
