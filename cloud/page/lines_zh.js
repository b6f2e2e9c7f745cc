// The lines that the cloud writes in English, in Chinese: why it refuses, why something is in the quarantine, what it is told by what it stands on.
// What a line names (a file, a number, another program's words) stays as it is; `rest` is a line again. The first that fits is taken.

export const linesZh = [
  // what cannot be used today
  [/^schema (?<schema>\w+) is not of any vehicle model in the settings; add its DBC files$/, "设置中没有任何车型使用 schema {schema}；请添加其 DBC 文件"],
  [/^cannot be decoded: (?<rest>.*)$/s, "无法解码：{rest}"],
  [/^rows: expected the (?<expected>\d+) announced columns, found (?<found>\d+)$/, "公告了 {expected} 列，实有 {found} 列"],
  [/^column (?<column>\d+) is announced, the schema has (?<signals>\d+) signals$/, "公告了第 {column} 列，而 schema 只有 {signals} 个信号"],
  [/^batch (?<batch>\d+) of stream (?<stream>\w+): kind (?<kind>\d+) is not known$/, "流 {stream} 的第 {batch} 条消息：种类 {kind} 未知"],
  [/^batch (?<batch>\d+) of stream (?<stream>\w+): altered, or another key's$/, "流 {stream} 的第 {batch} 条消息：被改动，或属于另一密钥"],
  [/^stream (?<stream>\w+): no announcement is known$/, "流 {stream}：没有收到其公告"],
  [/^stream (?<stream>\w+) is too large, or its sequences are too far apart$/, "流 {stream} 过大，或其序号间隔过大"],
  [/^stream (?<stream>\w+) is over: its announcement is forgotten$/, "流 {stream} 已结束，其公告已删除"],
  [/^announcement: none of our recipient keys is among its recipients \((?<keys>.*)\)$/, "公告：收件人中没有我们的密钥（{keys}）"],
  [/^header\.version: expected (?<expected>\d+), found (?<found>\d+)$/, "消息版本为 {found}，本程序只认识 {expected}"],
  [/^vehicle (?<vehicle>[0-9a-f]{16}): (?<rest>.*)$/s, "车辆 {vehicle}：{rest}"],
  [/^sink (?<sink>[\w-]+): placing: (?<error>.*)$/s, "读取方“{sink}”无法确定其时间：{error}"],
  [/^sink (?<sink>[\w-]+): (?<error>.*)$/s, "读取方“{sink}”无法处理：{error}"],

  // tickets
  [/^ticket (?<id>\d+): there is no such ticket$/, "工单 {id} 不存在"],
  [/^ticket (?<id>\d+): cannot go from '(?<handling_from>[\w ]+)' to '(?<handling_to>[\w ]+)'$/, "工单 {id} 不能从“{handling_from}”改为“{handling_to}”"],
  [/^ticket (?<id>\d+): a verdict comes with closing it, found one with '(?<handling_to>[\w ]+)'$/, "工单 {id}：结论只在关闭时给出，不能与“{handling_to}”一起给出"],
  [/^ticket (?<id>\d+): it is '(?<handling_now>[\w ]+)'; a verdict comes with closing it, or after$/, "工单 {id} 的状态是“{handling_now}”；结论在关闭时或关闭后给出"],
  [/^ticket (?<id>\d+): comment: expected some words, found none$/, "评论是空的，请写点内容"],
  [/^ids: expected at most (?<most>\d+), found (?<found>\d+)$/, "一次最多 {most} 个工单，所选为 {found} 个"],
  [/^\w+: expected at most (?<most>\d+) characters, found (?<found>\d+)$/, "文字最多 {most} 个字符，现为 {found} 个"],
  [/^\w+: expected text, found a zero byte$/, "文字中含有无法保存的字符（零字节）"],
  [/^delivery (?<id>\d+): there is none that was given up or delivered$/, "没有已送达或已放弃的消息 {id}"],

  // silences and filters
  [/^silence: expected one of vehicle, model, fault_code and pack_id at least; found none, which would hide everything$/, "请至少填写车辆、车型、故障代码或检测器之一，否则会隐藏一切"],
  [/^silence: fault_code '(?<code>.*)' alone would hide everything; name a vehicle, a model or a pack too$/, "仅用故障代码“{code}”会隐藏一切，请再填写车辆、车型或检测器"],
  [/^silence: reason: expected some words for who looks at it later, found none$/, "请写明原因，供以后查看的人参考"],
  [/^silence: to_ms: expected a time after from_ms \(\d+\), found \d+$/, "结束时间必须晚于开始时间"],
  [/^silence: to_ms: expected a time to come, found one that is over$/, "结束时间已经过去"],
  [/^silence: expected at most (?<time>\w+): what is never wanted is a matter for the policy or the pack$/, "静默最长 {time}；长期不需要的内容应在策略或检测包中处理"],
  [/^maintenance: expected a vehicle; what is for the whole fleet is a silence$/, "维护时段须指明车辆；针对整个车队的请用静默"],
  [/^(?<rest>(?:silence|maintenance) \d+): there is no such \w+, or it is over$/, "{rest} 不存在或已结束"],
  [/^name: expected 1 to (?<most>\d+) characters, found (?<found>\d+)$/, "名称须为 1 至 {most} 个字符，现为 {found} 个"],
  [/^body\.name: expected some words, found none$/, "请填写名称"],
  [/^filters: expected at most (?<most>\d+), found (?<found>\d+); delete one first$/, "最多保存 {most} 个筛选，请先移除一个"],
  [/^filter (?<id>\d+): there is no such filter$/, "筛选 {id} 不存在"],

  // who asks, and for what
  [/^(?<request>[A-Z]+ \S+) is open to .*, not to the role (?<role>[\w-]+) of token '(?<name>.*)'$/, "令牌“{name}”的角色“{role}”无权这样做（{request}）"],
  [/^too many requests; try again in (?<seconds>\d+) s$/, "请求过于频繁，请在 {seconds} 秒后重试"],
  [/^this (?:token|session) is not known, or no longer good$/, "令牌或会话未知，或已失效"],
  [/^a change by session must come from the API's own page; use a token in the Authorization header$/, "更改只能在本页面中进行；其他程序请使用令牌"],
  [/^vehicle '(?<vehicle>.*)': there is no such vehicle$/, "车辆 {vehicle} 不存在"],
  [/^vehicle '(?<vehicle>.*)': it has not said how it does$/, "车辆 {vehicle} 尚未报告其状态"],
  [/^from_ms: expected a time before to_ms \(\d+\), found \d+$/, "开始时间必须早于结束时间"],
  [/^from_ms, to_ms: expected at most (?<most>\d+) days for (?<kind>\w+), found (?<found>[\d.]+)$/, "{kind} 最多 {most} 天，所选为 {found} 天"],
  [/^asked again$/, "已要求重新发送"],
  [/^this cloud takes no replays$/, "该云端不接受重试"],
  [/^this is a fault in Cansight; its log says more$/, "这是 Cansight 自身的错误，详情见其日志"],

  // what the cloud stands on
  [/^(?<where>\S+?)(?:\/query)?: (?:writing to '[^']*' )?answered (?<status>\d+): (?<error>.*); is (?<file>.*) right\? It is read again at each try$/, "{where} 返回 {status}：{error}；{file} 正确吗？每次重试都会重新读取"],
  [/^(?<where>\S+?)(?:\/query)?: (?:writing to '[^']*' )?answered (?<status>\d+): (?<error>.*)$/, "{where} 返回 {status}：{error}"],
  [/^(?<where>\S+): (?<error>.*(?:Errno|refused|timed out|reset|unreachable).*)$/s, "{where} 无法连接：{error}"],
  [/^the database: (?<error>.*)$/s, "数据库：{error}"],
  [/^the ticket queue is not open$/, "工单尚不可用"],
  [/^ClientConnectorError: Cannot connect to host (?<where>\S+)(?<error>.*)$/s, "无法连接 {where}{error}"],
  [/^TimeoutError(?<error>.*)$/s, "没有及时响应{error}"],

  // any other "WHERE: expected THIS, found THAT"
  [/^(?<what>[\w.,' ]+?): expected (?<expected>.*), found (?<found>.*)$/s, "{what}：应为 {expected}，实为 {found}"],
];
